import { z } from 'zod';
import { AppError } from '../../platform/errors.ts';
import { isAtLeast, isCniVersion } from './version.ts';
import type { CniVersion } from './version.ts';

/** What a plugin returned from ADD. `content` is its JSON, unchanged, in the form of `version`. */
export interface CniResult {
  readonly version: CniVersion;
  readonly content: Readonly<Record<string, unknown>>;
}

const routeSchema = z.looseObject({ dst: z.string(), gw: z.string().optional() });
const dnsSchema = z.looseObject({});

/** 0.1.0 and 0.2.0: one address of each family. */
const legacyAddressSchema = z.looseObject({
  ip: z.string(),
  gateway: z.string().optional(),
  routes: z.array(routeSchema).nullish(),
});
const legacySchema = z.looseObject({
  ip4: legacyAddressSchema.nullish(),
  ip6: legacyAddressSchema.nullish(),
  dns: dnsSchema.nullish(),
});

/** 0.3.0 to 1.1.0: lists. Up to 0.4.0 each address names its family, after that it does not. */
const addressSchema = z.looseObject({
  address: z.string(),
  gateway: z.string().optional(),
  interface: z.number().nullish(),
  version: z.string().optional(),
});
const listSchema = z.looseObject({
  interfaces: z.array(z.looseObject({ name: z.string(), sandbox: z.string().optional() })).nullish(),
  ips: z.array(addressSchema).nullish(),
  routes: z.array(routeSchema).nullish(),
  dns: dnsSchema.nullish(),
});

type ListForm = z.infer<typeof listSchema>;

/** `fallback` is the version the plugin was called with: old plugins do not repeat it. */
export function parseResult(json: unknown, fallback: CniVersion): CniResult {
  const parsed = z.looseObject({ cniVersion: z.string().optional() }).safeParse(json);
  if (!parsed.success) throw new AppError('internal', 'the CNI result is not a JSON object');
  const version = parsed.data.cniVersion ?? fallback;
  if (!isCniVersion(version)) throw new AppError('internal', `CNI result of unknown version ${version}`);
  const checked = isLegacy(version) ? legacySchema.safeParse(json) : listSchema.safeParse(json);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw new AppError('internal', `malformed CNI result: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
  }
  return { version, content: parsed.data };
}

/** The result as a plugin of `version` expects its prevResult. */
export function resultAs(result: CniResult, version: CniVersion): Readonly<Record<string, unknown>> {
  if (result.version === version) return { ...result.content, cniVersion: version };
  const list = toList(result);
  if (isLegacy(version)) return { cniVersion: version, ...toLegacy(list) };
  const ips = list.ips?.map(({ version: _family, ...address }) =>
    isAtLeast(version, '1.0.0') ? address : { version: familyOf(address.address), ...address },
  );
  return { ...list, cniVersion: version, ...(ips === undefined ? {} : { ips }) };
}

/** Addresses with prefix length, in the plugin's order. */
export function addressesOf(result: CniResult): readonly string[] {
  return toList(result).ips?.map((each) => each.address) ?? [];
}

function isLegacy(version: CniVersion): boolean {
  return !isAtLeast(version, '0.3.0');
}

function familyOf(address: string): '4' | '6' {
  return address.includes(':') ? '6' : '4';
}

function toList(result: CniResult): ListForm {
  if (!isLegacy(result.version)) return listSchema.parse(result.content);
  const { ip4, ip6, dns } = legacySchema.parse(result.content);
  const both = [ip4, ip6].filter((each) => each !== undefined && each !== null);
  return {
    ips: both.map(({ ip, gateway }) => ({ address: ip, ...(gateway === undefined ? {} : { gateway }) })),
    routes: both.flatMap((each) => each.routes ?? []),
    ...(dns === undefined || dns === null ? {} : { dns }),
  };
}

function toLegacy({ ips, routes, dns }: ListForm): z.infer<typeof legacySchema> {
  const ofFamily = (family: '4' | '6'): z.infer<typeof legacyAddressSchema> | undefined => {
    const first = ips?.find((each) => familyOf(each.address) === family);
    if (first === undefined) return undefined;
    return {
      ip: first.address,
      ...(first.gateway === undefined ? {} : { gateway: first.gateway }),
      routes: (routes ?? []).filter((route) => familyOf(route.dst) === family),
    };
  };
  const [ip4, ip6] = [ofFamily('4'), ofFamily('6')];
  return {
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    ...(dns === undefined || dns === null ? {} : { dns }),
  };
}
