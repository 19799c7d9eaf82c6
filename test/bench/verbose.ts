import type { CriClient } from '../../src/cri/client.ts';
import type { Samples } from './samples.ts';

interface Request {
  /** Nanoseconds since the epoch. */
  readonly startedAt: string;
  readonly ms: number;
  readonly steps: readonly { readonly name: string; readonly ms: number }[];
}

/** What the daemon tells about a pod beyond its status. */
export interface PodInfo {
  /** Of QEMU. */
  readonly pid: number;
  readonly vm: { readonly origin: string };
  readonly startup: readonly Request[];
}

export interface ContainerInfo {
  readonly startup: readonly Request[];
}

export interface PoolState {
  readonly idle: number;
  readonly outdated: number;
  readonly size: number;
}

type Info = Readonly<Record<string, string>>;

function parsed(info: Info, key: string): unknown {
  const text = info[key];
  if (text === undefined)
    throw new Error(`the daemon tells nothing of "${key}", only of ${Object.keys(info).join(', ')}`);
  return JSON.parse(text);
}

export async function podInfo(cri: CriClient, id: string): Promise<PodInfo> {
  const { info } = await cri.call('PodSandboxStatus', { pod_sandbox_id: id, verbose: true });
  return parsed(info, 'info') as PodInfo;
}

export async function containerInfo(cri: CriClient, id: string): Promise<ContainerInfo> {
  const { info } = await cri.call('ContainerStatus', { container_id: id, verbose: true });
  return parsed(info, 'info') as ContainerInfo;
}

export async function daemonInfo(cri: CriClient): Promise<Info> {
  return (await cri.call('Status', { verbose: true })).info;
}

export async function poolStates(cri: CriClient): Promise<readonly PoolState[]> {
  const { classes } = parsed(await daemonInfo(cri), 'pools') as { readonly classes: readonly PoolState[] };
  return classes;
}

/** One sample of each step, whatever it is part of. */
export function addSteps(samples: Samples, { startup }: Pick<PodInfo, 'startup'>): void {
  for (const { name, ms } of startup.flatMap(({ steps }) => steps)) samples.add(name, ms);
}

/** How many pods are being started, and how many wait for their turn. */
export async function startsState(cri: CriClient): Promise<{ readonly limit: number }> {
  return parsed(await daemonInfo(cri), 'starts') as { readonly limit: number };
}
