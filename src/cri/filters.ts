import type { Container, ContainerState, Sandbox, SandboxState, StringMap } from '../podsandbox/model.ts';

/** Conditions of a list, all of which have to hold. Undefined: none; null: one that nothing fulfils. */
export interface SandboxConditions {
  /** A whole id; null when the prefix in the filter matches nothing. */
  readonly id: string | null | undefined;
  readonly state: SandboxState | undefined;
  readonly labels: StringMap;
}

export interface ContainerConditions {
  readonly id: string | null | undefined;
  readonly sandboxId: string | null | undefined;
  readonly state: ContainerState | undefined;
  readonly labels: StringMap;
}

/** Every wanted pair is there with exactly that value. */
export function hasLabels(labels: StringMap, wanted: StringMap): boolean {
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

function holds<T>(wanted: T | null | undefined, value: T): boolean {
  return wanted === undefined || wanted === value;
}

export function filterSandboxes(all: readonly Sandbox[], wanted: SandboxConditions): readonly Sandbox[] {
  return all.filter(
    (sandbox) =>
      holds<string>(wanted.id, sandbox.id) &&
      holds(wanted.state, sandbox.state) &&
      hasLabels(sandbox.config.labels, wanted.labels),
  );
}

export function filterContainers(all: readonly Container[], wanted: ContainerConditions): readonly Container[] {
  return all.filter(
    (container) =>
      holds<string>(wanted.id, container.id) &&
      holds<string>(wanted.sandboxId, container.sandboxId) &&
      holds(wanted.state, container.state) &&
      hasLabels(container.config.labels, wanted.labels),
  );
}
