import { z } from 'zod';
import { AppError } from '../../platform/errors.ts';
import { CNI_VERSIONS, newestOf } from './version.ts';
import type { CniVersion } from './version.ts';

/** One plugin of a network, with all the keys it was written with. */
export type PluginConfiguration = z.infer<typeof pluginSchema>;

/** A network: the plugins to call in order, under one name and one version of the specification. */
export interface NetworkConfiguration {
  readonly name: string;
  readonly cniVersion: CniVersion;
  readonly plugins: readonly PluginConfiguration[];
}

/** As libcni wants network names; they become part of file names. */
const networkName = z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, 'must be letters, digits, "_", "." and "-"');

/** Loose: the keys beyond these are the plugin's own affair. */
export const pluginSchema = z.looseObject({
  type: z.string().regex(/^[^/]+$/, 'must be the name of a plugin'),
  capabilities: z.record(z.string(), z.boolean()).optional(),
});
const versions = { cniVersion: z.string().optional(), cniVersions: z.array(z.string()).optional() };
const listSchema = z.looseObject({
  ...versions,
  name: networkName,
  plugins: z.array(pluginSchema).min(1, 'has no plugin'),
});
const singleSchema = pluginSchema.extend({ ...versions, name: networkName });

/** A file of the configuration directory: a list in *.conflist, one plugin in *.conf and *.json. Throws with the reason. */
export function parseConfigFile(fileName: string, text: string): NetworkConfiguration {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new AppError('invalid', text.trim() === '' ? 'the file is empty' : 'not valid JSON', { cause: error });
  }
  if (fileName.endsWith('.conflist')) {
    const list = check(listSchema, content);
    return { name: list.name, cniVersion: negotiate(list), plugins: list.plugins };
  }
  if (typeof content === 'object' && content !== null && 'plugins' in content) {
    throw new AppError('invalid', 'a list of plugins must be in a file named *.conflist');
  }
  const single = check(singleSchema, content);
  return { name: single.name, cniVersion: negotiate(single), plugins: [single] };
}

function check<T>(schema: z.ZodType<T>, content: unknown): T {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  const reasons = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'content'}: ${message}`);
  throw new AppError('invalid', reasons.join(', '));
}

/** Without a version the oldest is meant; `cniVersions` lists alternatives, of which the newest known one is taken. */
function negotiate(config: {
  cniVersion?: string | undefined;
  cniVersions?: readonly string[] | undefined;
}): CniVersion {
  const offered = [...(config.cniVersions ?? []), ...(config.cniVersion ? [config.cniVersion] : [])];
  const version = newestOf(offered.length === 0 ? ['0.1.0'] : offered);
  if (version === undefined) {
    throw new AppError(
      'invalid',
      `cniVersion ${offered.join(', ')} is not supported (accepted: ${CNI_VERSIONS.join(', ')})`,
    );
  }
  return version;
}
