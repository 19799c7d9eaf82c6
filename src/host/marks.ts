/**
 * Labels that kelyfos puts on the pods and containers it sends to the host runtime. They tell its own from
 * those of others after a restart of either side, and hold what the other runtime would not keep.
 * Nobody else gets to see them.
 */
export const markPrefix = 'runtime.kelyfos.io/';

const keys = {
  /** On everything that is ours: which kelyfos, by its root folder. */
  owner: `${markPrefix}owner`,
  /** On a pod: the runtime handler that was asked for. */
  handler: `${markPrefix}handler`,
  /** On a pod that was a virtual machine before: the id it is known by. */
  id: `${markPrefix}id`,
  /** On the containers of such a pod. */
  podId: `${markPrefix}pod-id`,
} as const;

const all: ReadonlySet<string> = new Set(Object.values(keys));

export type Labels = Readonly<Record<string, string>>;

export function ownerLabel(owner: string): Labels {
  return { [keys.owner]: owner };
}

export function withoutMarks(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([key]) => !all.has(key)));
}

/** `id`: under which the pod is known, when that is not the other runtime's. */
export function podLabels(labels: Labels, owner: string, handler: string, id: string | undefined): Labels {
  return {
    ...withoutMarks(labels),
    ...ownerLabel(owner),
    [keys.handler]: handler,
    ...(id === undefined ? {} : { [keys.id]: id }),
  };
}

export function containerLabels(labels: Labels, owner: string, podId: string | undefined): Labels {
  return {
    ...withoutMarks(labels),
    ...ownerLabel(owner),
    ...(podId === undefined ? {} : { [keys.podId]: podId }),
  };
}

export function isOwned(labels: Labels, owner: string): boolean {
  return labels[keys.owner] === owner;
}

/** The id a pod is known by. */
export function publicId({ id, labels }: { readonly id: string; readonly labels: Labels }): string {
  return labels[keys.id] ?? id;
}

/** What the marks on a pod or container say about it, in the fields of the API; and whether a key is one. */
export function isMark(key: string): boolean {
  return all.has(key);
}

export function markedFields(
  labels: Labels,
): Readonly<Record<'id' | 'pod_sandbox_id' | 'runtime_handler', string | undefined>> {
  return { id: labels[keys.id], pod_sandbox_id: labels[keys.podId], runtime_handler: labels[keys.handler] };
}
