import { AppError } from '../platform/errors.ts';
import type { ContainerId, SandboxId } from '../podsandbox/ids.ts';
import type { Containers, PodSandboxes } from '../podsandbox/model.ts';
import { nonEmpty } from './fields.ts';

/** Ids in requests may be a prefix that only one id has; several are an error of the caller. */

export function findSandbox(sandboxes: Pick<PodSandboxes, 'resolve'>, prefix: string): SandboxId | undefined {
  return sandboxes.resolve(nonEmpty(prefix, 'pod_sandbox_id'));
}

export function needSandbox(sandboxes: Pick<PodSandboxes, 'resolve'>, prefix: string): SandboxId {
  const id = findSandbox(sandboxes, prefix);
  if (id === undefined) throw new AppError('not-found', `no pod sandbox "${prefix}"`);
  return id;
}

export function findContainer(containers: Pick<Containers, 'resolve'>, prefix: string): ContainerId | undefined {
  return containers.resolve(nonEmpty(prefix, 'container_id'));
}

export function needContainer(containers: Pick<Containers, 'resolve'>, prefix: string): ContainerId {
  const id = findContainer(containers, prefix);
  if (id === undefined) throw new AppError('not-found', `no container "${prefix}"`);
  return id;
}

/** For filters: undefined without a condition, null when nothing has that prefix. */
export function filterId<Id extends string>(
  resolve: (prefix: string) => Id | undefined,
  prefix: string,
): Id | null | undefined {
  return prefix === '' ? undefined : (resolve(prefix) ?? null);
}
