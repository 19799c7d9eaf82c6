import { AppError } from '../../platform/errors.ts';
import { batches } from '../batches.ts';
import type { StreamHandler, UnaryHandler } from '../call.ts';
import type { StreamCalls, UnaryCalls } from '../calls.ts';
import type * as cri from '../gen/cri-types.ts';
import type { HostRuntime } from './host-runtime.ts';
import { hostMetrics } from './metrics.ts';
import { matchContainers, matchSandboxes } from './match.ts';

/** Any list request; what kind its filter is depends on the call. */
interface ListRequest {
  readonly filter?: cri.PodSandboxFilter | cri.ContainerFilter | null;
}
type Messages = Readonly<Record<string, readonly object[]>>;

/** What the host runtime adds to a list. */
type Source = (host: HostRuntime, filter: ListRequest['filter']) => Promise<readonly object[]>;

const sandboxes: Source = async (host, filter) => matchSandboxes(await host.sandboxes(), filter ?? null);

const containers: Source = async (host, filter) =>
  matchContainers(await host.containers(), (filter as cri.ContainerFilter | undefined) ?? null);

const sandboxStats: Source = async (host, filter) => {
  const [stats, all] = await Promise.all([host.sandboxStats(), host.sandboxes()]);
  const ids = new Set(matchSandboxes(all, filter ?? null).map(({ id }) => id));
  return stats.filter(({ attributes }) => ids.has(attributes?.id ?? ''));
};

const containerStats: Source = async (host, filter) => {
  // Of which pod a container is only the list of containers says.
  const [stats, all] = await Promise.all([host.containerStats(), host.containers()]);
  const matching = matchContainers(all, (filter as cri.ContainerFilter | undefined) ?? null);
  const ids = new Set(matching.map(({ id }) => id));
  return stats.filter(({ attributes }) => ids.has(attributes?.id ?? ''));
};

interface List {
  /** Of the response, with the items. */
  readonly field: string;
  readonly source: Source;
}

export const mergedLists = {
  ListPodSandbox: { field: 'items', source: sandboxes },
  ListContainers: { field: 'containers', source: containers },
  ListContainerStats: { field: 'stats', source: containerStats },
  ListPodSandboxStats: { field: 'stats', source: sandboxStats },
  ListPodSandboxMetrics: { field: 'pod_metrics', source: hostMetrics },
} as const satisfies Partial<Record<keyof UnaryCalls, List>>;

export const mergedStreams = {
  StreamPodSandboxes: { field: 'pod_sandboxes', source: sandboxes },
  StreamContainers: { field: 'containers', source: containers },
  StreamContainerStats: { field: 'container_stats', source: containerStats },
  StreamPodSandboxStats: { field: 'pod_sandbox_stats', source: sandboxStats },
  StreamPodSandboxMetrics: { field: 'pod_sandbox_metrics', source: hostMetrics },
} as const satisfies Partial<Record<keyof StreamCalls, List>>;

/** A prefix in the filter for which both runtimes have something is an error of the caller. */
function checkPrefix(request: ListRequest, own: boolean, theirs: readonly object[]): void {
  const prefix = request.filter?.id ?? '';
  if (prefix !== '' && own && theirs.length > 0) {
    throw new AppError('invalid', `id "${prefix}" is ambiguous: both runtimes have one that starts with it`);
  }
}

/** A list of both. */
export function mergedList(
  { field, source }: List,
  own: UnaryHandler<ListRequest, Messages>,
  host: HostRuntime,
): UnaryHandler<ListRequest, Messages> {
  return async (request, call) => {
    const [ours, theirs] = await Promise.all([own(request, call), source(host, request.filter)]);
    const items = ours[field] ?? [];
    checkPrefix(request, items.length > 0, theirs);
    return { ...ours, [field]: [...items, ...theirs] };
  };
}

/** The same as a stream. The host runtime's part comes from its list, which older ones have, too. */
export function mergedStream(
  { field, source }: List,
  own: StreamHandler<ListRequest, Messages>,
  host: HostRuntime,
): StreamHandler<ListRequest, Messages> {
  return async function* (request, call) {
    const theirs = await source(host, request.filter);
    let any = false;
    for await (const message of own(request, call)) {
      any = true;
      yield message;
    }
    checkPrefix(request, any, theirs);
    for (const batch of batches(theirs)) yield { [field]: batch };
  };
}
