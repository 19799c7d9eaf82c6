import { randomBytes } from 'node:crypto';

declare const brand: unique symbol;

/**
 * 64 lower-case hex digits, as the peers use; crictl shows the first 13. Made here, and recognised by
 * the registry, which turns what a client sends into one of them.
 */
export type SandboxId = string & { readonly [brand]: 'sandbox' };
export type ContainerId = string & { readonly [brand]: 'container' };

export function newSandboxId(): SandboxId {
  return randomBytes(32).toString('hex') as SandboxId;
}

/** One of a pod that something was made for before it was asked for. */
export function reservedSandboxId(id: string): SandboxId {
  return id as SandboxId;
}

export function newContainerId(): ContainerId {
  return randomBytes(32).toString('hex') as ContainerId;
}
