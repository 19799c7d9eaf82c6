import { isIP } from 'node:net';
import { z } from 'zod';
import { parseDuration, parseSize } from './units.ts';

/** What a setting says about itself: for messages, documentation and the suggestion of keys. */
interface SettingMeta {
  /** What is accepted, as the end of the sentence "accepted: …". */
  readonly accepts: string;
  /** Absent: the key has no default and may be left out. */
  readonly fallback?: unknown;
}

const metas = z.registry<SettingMeta>();

export function metaOf(schema: unknown): SettingMeta | undefined {
  return schema instanceof z.ZodType ? metas.get(schema) : undefined;
}

/** One key of the configuration with its default. */
export function setting<S extends z.ZodType>(
  schema: S,
  accepts: string,
  fallback: z.util.NoUndefined<z.output<S>>,
): z.ZodDefault<S> {
  const withDefault = schema.default(fallback);
  metas.add(withDefault, { accepts, fallback });
  return withDefault;
}

/** One key that may be absent. */
export function optionalSetting<S extends z.ZodType>(schema: S, accepts: string): z.ZodOptional<S> {
  const optional = schema.optional();
  metas.add(optional, { accepts });
  return optional;
}

/** An absolute path in its shortest spelling: what is compared as text later must not have two forms. */
export const absolutePath = z.string().refine((text) => /^\/(?!$)/.test(text) && !/\/\.{0,2}(\/|$)/.test(text));

/** A program: an absolute path, or a name to look for in PATH. */
export const program = z.string().refine((text) => /^[^/\s]+$/.test(text) || absolutePath.safeParse(text).success);

export const size = z.string().refine((text) => (parseSize(text) ?? 0) > 0);
export const sizeAccepts = 'a size above 0 with its unit, such as "512MiB" or "2GiB"';

/** Guest memory is handed out in these. */
export const wholeMebibytes = size.refine((text) => (parseSize(text) ?? 0) % (1024 * 1024) === 0);

/** QEMU takes no more than 2 GiB of translated code; with less than 8 MiB it does little but translate. */
export const translationBuffer = wholeMebibytes.refine((text) => {
  const mebibytes = (parseSize(text) ?? 0) / (1024 * 1024);
  return mebibytes >= 8 && mebibytes < 2048;
});

export const duration = z.string().refine((text) => (parseDuration(text) ?? 0) > 0);
export const durationAccepts = 'a duration above 0 with its unit, such as "500ms", "90s" or "10m"';

/** What only looks like a name is found when the daemon starts. */
export const imageName = z.string().regex(/^[\w./:@[\]-]+$/);

export const ipAddress = z.string().refine((text) => isIP(text) !== 0);

/** Of a server; what it says of users and passwords would end up in the log. */
export const httpUrl = z.string().refine((text) => {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
});

/** address:port, the address in brackets when it is IPv6. */
export const listenAddress = z.string().refine((text) => {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  return match !== null && isIP(match[1] ?? match[2] ?? '') !== 0 && Number(match[3]) <= 65535;
});
