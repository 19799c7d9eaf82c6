import { randomBytes } from 'node:crypto';
import { AppError } from '../platform/errors.ts';

declare const brand: unique symbol;

/** 64 lower-case hex digits, as the peers use; crictl shows the first 13. */
export type SandboxId = string & { readonly [brand]: 'sandbox' };
export type ContainerId = string & { readonly [brand]: 'container' };

const whole = /^[0-9a-f]{64}$/;

function parse(text: string, what: string): string {
  if (!whole.test(text)) throw new AppError('invalid', `${what} id "${text}" is not 64 hex digits`);
  return text;
}

export function parseSandboxId(text: string): SandboxId {
  return parse(text, 'pod sandbox') as SandboxId;
}

export function parseContainerId(text: string): ContainerId {
  return parse(text, 'container') as ContainerId;
}

export function newSandboxId(): SandboxId {
  return randomBytes(32).toString('hex') as SandboxId;
}

export function newContainerId(): ContainerId {
  return randomBytes(32).toString('hex') as ContainerId;
}
