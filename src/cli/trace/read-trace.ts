import { z } from 'zod';
import type { CriClient } from '../../cri/client.ts';
import type * as cri from '../../cri/gen/cri-types.ts';
import { CommandError } from '../fail.ts';
import { type PodTrace, startupSchema, type TracedRequest } from './pod-trace.ts';

const podInfo = z.object({ startup: startupSchema, vm: z.object({ origin: z.string() }) });
const containerInfo = z.object({ startup: startupSchema });

/** The trace of the pod that `text` names: the begin of an id, or namespace/name. */
export async function readTrace(client: CriClient, text: string, signal: AbortSignal): Promise<PodTrace> {
  const wanted = text.includes('/') ? await findByName(client, text, signal) : text;
  const { status, info } = await client.call('PodSandboxStatus', { pod_sandbox_id: wanted, verbose: true }, { signal });
  const { id = '', metadata } = status ?? {};
  const { vm, startup } = parseInfo(info, podInfo, `pod ${id}`);
  const { containers } = await client.call('ListContainers', { filter: { pod_sandbox_id: id } }, { signal });
  const ofContainers = await Promise.all(containers.map((container) => readContainer(client, container, signal)));
  return {
    id,
    name: metadata?.name ?? '',
    namespace: metadata?.namespace ?? '',
    attempt: metadata?.attempt ?? 0,
    origin: vm.origin,
    requests: [...startup, ...ofContainers.flat()].toSorted((a, b) => Number(a.startedAt - b.startedAt)),
  };
}

/** A pod that runs is meant rather than one that did, and the latest of several. */
async function findByName(client: CriClient, text: string, signal: AbortSignal): Promise<string> {
  const [namespace, name, ...rest] = text.split('/');
  if (namespace === '' || name === '' || rest.length > 0)
    throw new CommandError(`pod: found "${text}", accepted: the begin of an id, or namespace/name`);
  const { items } = await client.call('ListPodSandbox', {}, { signal });
  const [best] = items
    .filter(({ metadata }) => metadata?.namespace === namespace && metadata?.name === name)
    .toSorted(
      (a, b) =>
        Number(b.state === 'SANDBOX_READY') - Number(a.state === 'SANDBOX_READY') ||
        Number(BigInt(b.created_at) - BigInt(a.created_at)),
    );
  if (best === undefined) throw new CommandError(`no pod "${name ?? ''}" in namespace "${namespace ?? ''}"`);
  return best.id;
}

async function readContainer(
  client: CriClient,
  { id, metadata }: cri.Container,
  signal: AbortSignal,
): Promise<readonly TracedRequest[]> {
  const { info } = await client.call('ContainerStatus', { container_id: id, verbose: true }, { signal });
  const container = { id, name: metadata?.name ?? '', attempt: metadata?.attempt ?? 0 };
  return parseInfo(info, containerInfo, `container ${id}`).startup.map((request) => ({ ...request, container }));
}

function parseInfo<T>(info: Readonly<Record<string, string>>, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(JSON.parse(info['info'] ?? ''));
  } catch (error) {
    // As of a pod in a host runtime.
    throw new CommandError(`the runtime of ${what} keeps no traces`, 1, { cause: error });
  }
}
