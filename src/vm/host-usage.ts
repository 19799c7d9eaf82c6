import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../platform/errors.ts';
import { parsePressure, type Pressure } from './pressure.ts';

/** Bytes but for the counts. */
export interface HostMemory {
  readonly usage: bigint;
  /** Without file pages that can go at any time. */
  readonly workingSet: bigint;
  readonly rss: bigint;
  readonly swap: bigint;
  /** Undefined when there is none. */
  readonly limit: bigint | undefined;
  readonly pageFaults: bigint;
  readonly majorPageFaults: bigint;
}

export interface InterfaceTraffic {
  readonly bytes: bigint;
  readonly packets: bigint;
  readonly errors: bigint;
  readonly dropped: bigint;
}

export interface HostInterface {
  readonly name: string;
  readonly received: InterfaceTraffic;
  readonly sent: InterfaceTraffic;
}

/** What a VM takes from the host. Undefined where the host does not account for it. */
export interface HostUsage {
  /** Nanoseconds since the epoch. */
  readonly at: bigint;
  readonly cpuNs: bigint | undefined;
  readonly memory: HostMemory | undefined;
  readonly pressure: {
    readonly cpu: Pressure | undefined;
    readonly memory: Pressure | undefined;
    readonly io: Pressure | undefined;
  };
  /** Those that CNI made in the VM's network namespace, as the pod sees them. */
  readonly interfaces: readonly HostInterface[];
}

/** The groups that a process is in, wherever those are. The table of mounts grows with the pods: not to be looked up each time. */
export async function findGroups(pid: number): Promise<GroupFolders> {
  const [mounts, membership] = await Promise.all([
    readFile('/proc/self/mountinfo', 'utf8'),
    readFile(join('/proc', String(pid), 'cgroup'), 'utf8'),
  ]);
  return groupFolders(mounts, membership);
}

/** Reads the accounts of a process's groups and of the network namespace it runs in. A process that is gone is an error. */
export async function readHostUsage(
  pid: number,
  { unified, cpuacct, memory }: GroupFolders,
  ownInterfaces: readonly string[],
): Promise<HostUsage> {
  const network = await readFile(join('/proc', String(pid), 'net/dev'), 'utf8');
  const at = BigInt(Date.now()) * 1_000_000n;
  const [cpuNs, memoryFigures, ...pressures] = await Promise.all([
    cpuTime(unified, cpuacct),
    memoryUse(unified, memory),
    ...['cpu', 'memory', 'io'].map(async (resource) => parsePressure(await readIn(unified, `${resource}.pressure`))),
  ]);
  const [cpu, ofMemory, io] = pressures;
  return {
    at,
    cpuNs,
    memory: memoryFigures,
    pressure: { cpu, memory: ofMemory, io },
    interfaces: parseInterfaces(network).filter(({ name }) => name !== 'lo' && !ownInterfaces.includes(name)),
  };
}

export interface GroupFolders {
  readonly unified: string | undefined;
  readonly cpuacct: string | undefined;
  readonly memory: string | undefined;
}

/** Where the groups of /proc/<pid>/cgroup are below the mounts of /proc/self/mountinfo. */
export function groupFolders(mountinfo: string, membership: string): GroupFolders {
  const paths = new Map<string, string>();
  for (const line of membership.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    for (const controller of controllers.split(',')) paths.set(controller, path);
  }
  const found = new Map<string, string>();
  for (const line of mountinfo.split('\n')) {
    const [mount = '', source = ''] = line.split(' - ');
    const [root, mountPoint] = mount.split(' ').slice(3, 5);
    const [type, , superOptions = ''] = source.split(' ');
    if (root === undefined || mountPoint === undefined) continue;
    const controllers = type === 'cgroup2' ? [''] : type === 'cgroup' ? superOptions.split(',') : [];
    for (const controller of controllers) {
      const path = paths.get(controller);
      if (path === undefined || found.has(controller)) continue;
      const below = root !== '/' && path.startsWith(root) ? path.slice(root.length) : path;
      found.set(controller, join(mountPoint, below));
    }
  }
  return { unified: found.get(''), cpuacct: found.get('cpuacct'), memory: found.get('memory') };
}

async function cpuTime(unified: string | undefined, cpuacct: string | undefined): Promise<bigint | undefined> {
  const v1 = await readIn(cpuacct, 'cpuacct.usage');
  if (v1 !== undefined) return BigInt(v1.trim());
  const microseconds = keyed(await readIn(unified, 'cpu.stat')).get('usage_usec');
  return microseconds === undefined ? undefined : microseconds * 1000n;
}

async function memoryUse(unified: string | undefined, v1: string | undefined): Promise<HostMemory | undefined> {
  if (v1 !== undefined) {
    const [usage, stat, limit] = await Promise.all(
      ['memory.usage_in_bytes', 'memory.stat', 'memory.limit_in_bytes'].map((file) => readIn(v1, file)),
    );
    const of = keyed(stat);
    const total = (key: string): bigint => of.get(`total_${key}`) ?? 0n;
    return memoryOf(usage, limit, {
      inactive: total('inactive_file'),
      rss: total('rss'),
      swap: total('swap'),
      pageFaults: total('pgfault'),
      majorPageFaults: total('pgmajfault'),
    });
  }
  const [usage, stat, limit, swap] = await Promise.all(
    ['memory.current', 'memory.stat', 'memory.max', 'memory.swap.current'].map((file) => readIn(unified, file)),
  );
  const of = keyed(stat);
  return memoryOf(usage, limit, {
    inactive: of.get('inactive_file') ?? 0n,
    rss: of.get('anon') ?? 0n,
    swap: BigInt(swap?.trim() ?? 0),
    pageFaults: of.get('pgfault') ?? 0n,
    majorPageFaults: of.get('pgmajfault') ?? 0n,
  });
}

/** v1 says "no limit" by the largest number of whole pages, v2 by "max". */
const unlimited = 1n << 62n;

function memoryOf(
  usageText: string | undefined,
  limitText: string | undefined,
  { inactive, ...figures }: Omit<HostMemory, 'usage' | 'limit' | 'workingSet'> & { readonly inactive: bigint },
): HostMemory | undefined {
  if (usageText === undefined) return undefined;
  const usage = BigInt(usageText.trim());
  const limit = /^\d+$/.test(limitText?.trim() ?? '') ? BigInt((limitText ?? '').trim()) : unlimited;
  return {
    ...figures,
    usage,
    workingSet: usage > inactive ? usage - inactive : 0n,
    limit: limit >= unlimited ? undefined : limit,
  };
}

/** The numbers of a file of `key value` lines. */
function keyed(text: string | undefined): ReadonlyMap<string, bigint> {
  const lines = (text ?? '').split('\n').map((line) => line.split(' '));
  return new Map(
    lines.flatMap(([key = '', value = '']) => (/^\d+$/.test(value) ? [[key, BigInt(value)] as const] : [])),
  );
}

/** Interfaces of a /proc/<pid>/net/dev. */
export function parseInterfaces(text: string): HostInterface[] {
  return text.split('\n').flatMap((line) => {
    const [, name, numbers] = /^\s*([^\s:]+):\s*(\d[\d\s]*)$/.exec(line) ?? [];
    if (name === undefined || numbers === undefined) return [];
    const values = numbers.trim().split(/\s+/).map(BigInt);
    const traffic = (start: number): InterfaceTraffic => {
      const [bytes = 0n, packets = 0n, errors = 0n, dropped = 0n] = values.slice(start);
      return { bytes, packets, errors, dropped };
    };
    return [{ name, received: traffic(0), sent: traffic(8) }];
  });
}

/** Undefined when there is no such folder or file, or the kernel does not keep the figure. */
async function readIn(folder: string | undefined, file: string): Promise<string | undefined> {
  if (folder === undefined) return undefined;
  try {
    return await readFile(join(folder, file), 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV', 'ENOTSUP', 'EOPNOTSUPP')) return undefined;
    throw error;
  }
}
