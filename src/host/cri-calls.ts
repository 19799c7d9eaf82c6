import type { Outgoing } from '../cri/call.ts';
import type { StreamCalls, UnaryCalls } from '../cri/calls.ts';

/** A client of the other runtime, as far as it is used here. Rejects with grpc-js's ServiceError. */
export interface CriCalls {
  call<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
    options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<UnaryCalls[Name][1]>;
  stream<Name extends keyof StreamCalls>(
    name: Name,
    request: Outgoing<StreamCalls[Name][0]>,
    options?: { readonly signal?: AbortSignal },
  ): AsyncIterable<StreamCalls[Name][1]>;
  /** Resolves once there is a connection; rejects when there is none after `timeoutMs`. */
  connected(timeoutMs: number): Promise<void>;
  close(): void;
}
