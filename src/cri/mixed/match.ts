import { AppError } from '../../platform/errors.ts';
import { hasLabels } from '../filters.ts';
import type * as cri from '../gen/cri-types.ts';

/** Conditions of a list as the API has them, on items of the host runtime. Prefixes of ids are allowed. */

interface Item {
  readonly id: string;
  readonly state: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface Conditions {
  readonly id: string;
  readonly state?: { readonly state: string } | null;
  readonly label_selector: Readonly<Record<string, string>>;
}

function match<T extends Item>(items: readonly T[], filter: Conditions | null, what: string): readonly T[] {
  if (filter === null) return items;
  return withPrefix(items, filter.id, ({ id }) => id, what).filter(
    ({ state, labels }) => (filter.state?.state ?? state) === state && hasLabels(labels, filter.label_selector),
  );
}

function withPrefix<T>(items: readonly T[], prefix: string, idOf: (item: T) => string, what: string): readonly T[] {
  if (prefix === '') return items;
  const found = items.filter((item) => idOf(item).startsWith(prefix));
  const ids = new Set(found.map(idOf));
  if (ids.size > 1)
    throw new AppError('invalid', `${what} id "${prefix}" is ambiguous: ${String(ids.size)} start with it`);
  return found;
}

export function matchSandboxes(items: readonly cri.PodSandbox[], filter: Conditions | null): readonly cri.PodSandbox[] {
  return match(items, filter, 'pod sandbox');
}

export function matchContainers(
  items: readonly cri.Container[],
  filter: (Conditions & { readonly pod_sandbox_id: string }) | null,
): readonly cri.Container[] {
  const ofPod = withPrefix(items, filter?.pod_sandbox_id ?? '', (item) => item.pod_sandbox_id, 'pod sandbox');
  return match(ofPod, filter, 'container');
}
