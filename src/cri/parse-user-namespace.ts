import type { IdMapping, IdMappings, NamespaceOptions } from '../podsandbox/model.ts';
import type { Outgoing } from './call.ts';
import { invalid } from './fields.ts';
import type * as cri from './gen/cri-types.ts';

/** Ids are 32 bits, and the last one means "leave it" to the kernel. */
const idCount = 0xffff_ffff;

function parseIdMapping(mapping: cri.IDMapping, field: string): IdMapping {
  const { container_id: containerId, host_id: hostId, length } = mapping;
  if (length === 0) throw invalid(`${field}.length`, 'is 0');
  for (const [name, first] of Object.entries({ container_id: containerId, host_id: hostId })) {
    if (first + length > idCount)
      throw invalid(
        field,
        `has ${String(length)} ids from ${name} ${String(first)} on, which goes beyond the last one`,
      );
  }
  return { containerId, hostId, length };
}

/** Of users and of groups: both, or neither. */
export function parseIdMappings(
  uids: readonly cri.IDMapping[],
  gids: readonly cri.IDMapping[],
  names: readonly [uids: string, gids: string],
): IdMappings | undefined {
  if (uids.length === 0 && gids.length === 0) return undefined;
  const parse = (list: readonly cri.IDMapping[], field: string): readonly IdMapping[] => {
    if (list.length === 0) throw invalid(field, 'is empty, but the other is not');
    return list.map((mapping, index) => parseIdMapping(mapping, `${field}[${String(index)}]`));
  };
  return { uids: parse(uids, names[0]), gids: parse(gids, names[1]) };
}

/** A pod's user namespace: as the kubelet makes them, one range of ids from 0 on. */
export function parseUserNamespace(options: cri.UserNamespace | null, field: string): NamespaceOptions['users'] {
  if (options === null) return undefined;
  const { mode, uids, gids } = options;
  const names = [`${field}.uids`, `${field}.gids`] as const;
  const mappings = parseIdMappings(uids, gids, names);
  if (mode === 'NODE') {
    if (mappings !== undefined) throw invalid(field, 'has mappings, but mode is NODE');
    return 'node';
  }
  if (mode !== 'POD') throw invalid(`${field}.mode`, `cannot be ${mode}`);
  if (mappings === undefined) throw invalid(field, 'has no mappings, but mode is POD');
  for (const [list, name] of [
    [mappings.uids, names[0]],
    [mappings.gids, names[1]],
  ] as const) {
    if (list.length > 1) throw invalid(name, `has ${String(list.length)} mappings, only one is supported`);
    if (list[0]?.containerId !== 0) throw invalid(`${name}[0].container_id`, 'is not 0: root has to be mapped');
  }
  return mappings;
}

export function shapeIdMappings(list: readonly IdMapping[]): Outgoing<cri.IDMapping>[] {
  return list.map(({ containerId, hostId, length }) => ({ container_id: containerId, host_id: hostId, length }));
}

export function shapeUserNamespace(users: NamespaceOptions['users']): Outgoing<cri.UserNamespace> | null {
  if (users === undefined) return null;
  if (users === 'node') return { mode: 'NODE', uids: [], gids: [] };
  return { mode: 'POD', uids: shapeIdMappings(users.uids), gids: shapeIdMappings(users.gids) };
}
