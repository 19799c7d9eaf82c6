import type { Log } from '../platform/log.ts';
import type { TraceParent } from '../podsandbox/trace-model.ts';

/** What a handler knows about the call besides its request. */
export interface CallContext {
  /** Aborts when the client cancels or its deadline passes (then the reason is a TimeoutError). */
  readonly signal: AbortSignal;
  /** Carries the name of the call. */
  readonly log: Log;
  /** The caller's span, if it traces its work. */
  readonly caller?: TraceParent | undefined;
}

/** A message on its way out: what is left out has the default of its type. */
export type Outgoing<T> = T extends string | number | boolean | null
  ? T
  : T extends Uint8Array
    ? Uint8Array
    : T extends readonly (infer Element)[]
      ? readonly Outgoing<Element>[]
      : T extends Readonly<Record<string, string>>
        ? T
        : { readonly [Key in keyof T]?: Outgoing<T[Key]> };

export type UnaryHandler<Request, Response> = (request: Request, call: CallContext) => Promise<Outgoing<Response>>;

/** Answers with a finite list of messages. */
export type StreamHandler<Request, Response> = (
  request: Request,
  call: CallContext,
) => AsyncIterable<Outgoing<Response>>;

/** Answers once to many messages. */
export type ReceiveHandler<Request, Response> = (
  messages: AsyncIterable<Request>,
  call: CallContext,
) => Promise<Outgoing<Response>>;
