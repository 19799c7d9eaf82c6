import { randomBytes } from 'node:crypto';
import { AppError } from '../../platform/errors.ts';
import type { RelayRequest, StreamRequest } from './stream-request.ts';

export type PendingRequest = StreamRequest | RelayRequest;

/** 48 bits: eight characters of base64url. Whoever has the token may connect; nothing else is asked. */
const tokenBytes = 6;
const lifeMs = 60_000;
const maxWaiting = 1000;

interface Waiting {
  readonly request: PendingRequest;
  /** On the clock given. */
  readonly expires: number;
}

/** Requests that wait for their client to connect: each can be taken once, within a minute. */
export class PendingRequests {
  /** Oldest first, as all live equally long. */
  readonly #waiting = new Map<string, Waiting>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The token for it; throws `exhausted` when too many are waiting. */
  add(request: PendingRequest): string {
    this.#expire();
    if (this.#waiting.size >= maxWaiting) {
      throw new AppError('exhausted', `${String(maxWaiting)} streaming requests wait for their clients already`);
    }
    let token: string;
    do token = randomBytes(tokenBytes).toString('base64url');
    while (this.#waiting.has(token));
    this.#waiting.set(token, { request, expires: this.#now() + lifeMs });
    return token;
  }

  /** Undefined when there is none, or no more. */
  take(kind: StreamRequest['kind'], token: string): PendingRequest | undefined {
    this.#expire();
    const found = this.#waiting.get(token);
    if (found?.request.kind !== kind) return undefined;
    this.#waiting.delete(token);
    return found.request;
  }

  #expire(): void {
    const now = this.#now();
    for (const [token, { expires }] of this.#waiting) {
      if (expires > now) return;
      this.#waiting.delete(token);
    }
  }
}
