import { drained } from './drained.ts';
import type {
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  sendUnaryData,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
} from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { AppError, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { Outgoing, ReceiveHandler, StreamHandler, UnaryHandler } from './call.ts';
import { callStatus } from './status-codes.ts';
import { traceParentOf } from './trace-parent.ts';

/** Called every second or so by the kubelet. */
const frequent = /^(List|Stream|Status$|Version$|.*Status$|ImageFsInfo$|RuntimeConfig$)/;

const ids = ['pod_sandbox_id', 'container_id', 'image_ref'] as const;
const idKeys = { pod_sandbox_id: 'sandboxId', container_id: 'containerId', image_ref: 'imageRef' } as const;

/** The ids of a message for the log, and nothing else of it: requests hold credentials and environments. */
function idsOf(message: unknown): Record<string, string> {
  if (typeof message !== 'object' || message === null) return {};
  const found: Record<string, string> = {};
  const fields = message as Readonly<Record<string, unknown>>;
  for (const key of ids) {
    const value = fields[key];
    if (typeof value === 'string' && value !== '') found[idKeys[key]] = value;
  }
  const image = fields['image'];
  if (typeof image === 'object' && image !== null && 'image' in image && typeof image.image === 'string') {
    found['image'] = image.image;
  }
  return found;
}

interface Call {
  readonly cancelled: boolean;
  getDeadline(): Date | number;
  once(event: 'cancelled', listener: () => void): unknown;
}

/** The client's deadline passes earlier than the one that is counted from the request's arrival, by the time it was on its way. */
const transitMs = 100;

/** Aborts with the call; TimeoutError tells a deadline from a client that has gone. */
function signalOf(call: Call): AbortSignal {
  const controller = new AbortController();
  const abort = (): void => {
    const passed = Number(call.getDeadline()) - Date.now() <= transitMs;
    controller.abort(
      passed
        ? new DOMException('the deadline of the call has passed', 'TimeoutError')
        : new DOMException('the client has cancelled the call', 'AbortError'),
    );
  };
  if (call.cancelled) abort();
  else call.once('cancelled', abort);
  return controller.signal;
}

class Measure {
  readonly #started = performance.now();
  readonly #rpc: string;
  readonly #log: Log;

  constructor(rpc: string, log: Log) {
    this.#rpc = rpc;
    this.#log = log;
  }

  #ms(): number {
    return Math.round((performance.now() - this.#started) * 10) / 10;
  }

  succeeded(fields: Record<string, string>): void {
    this.#log[frequent.test(this.#rpc) ? 'debug' : 'info']({ ...fields, ms: this.#ms() }, this.#rpc);
  }

  failed(error: unknown, fields: Record<string, string>): void {
    const { code } = callStatus(error);
    const known = error instanceof AppError;
    // A client's mistake is told in one line; what we did not expect comes with its stack.
    const level = code === status.INTERNAL ? 'error' : code === status.UNIMPLEMENTED ? 'debug' : 'warn';
    const cause = known && level !== 'error' ? { error: messageOf(error) } : { err: error };
    this.#log[level]({ ...fields, ms: this.#ms(), status: status[code], ...cause }, this.#rpc);
  }
}

/** Wraps a handler: log with ids and duration, cancellation as a signal, errors as statuses. */
export function unary<Request, Response>(
  rpc: string,
  handler: UnaryHandler<Request, Response>,
  log: Log,
): handleUnaryCall<Request, Outgoing<Response>> {
  const rpcLog = log.child({ rpc });
  return (call: ServerUnaryCall<Request, Outgoing<Response>>, callback: sendUnaryData<Outgoing<Response>>) => {
    const measure = new Measure(rpc, rpcLog);
    const asked = idsOf(call.request);
    const work = async (): Promise<Outgoing<Response>> =>
      handler(call.request, { signal: signalOf(call), log: rpcLog, caller: traceParentOf(call.metadata) });
    work().then(
      (response) => {
        measure.succeeded({ ...asked, ...idsOf(response) });
        callback(null, response);
      },
      (error: unknown) => {
        measure.failed(error, asked);
        callback(callStatus(error));
      },
    );
  };
}

/** The same for calls that answer with many messages; waits while the client is slow to read. */
export function streaming<Request, Response>(
  rpc: string,
  handler: StreamHandler<Request, Response>,
  log: Log,
): handleServerStreamingCall<Request, Outgoing<Response>> {
  const rpcLog = log.child({ rpc });
  return (call: ServerWritableStream<Request, Outgoing<Response>>) => {
    const measure = new Measure(rpc, rpcLog);
    const asked = idsOf(call.request);
    const signal = signalOf(call);
    const work = async (): Promise<void> => {
      for await (const message of handler(call.request, { signal, log: rpcLog })) {
        if (signal.aborted) return;
        if (!call.write(message)) await drained(call, signal);
      }
    };
    work().then(
      () => {
        measure.succeeded(asked);
        call.end();
      },
      (error: unknown) => {
        measure.failed(error, asked);
        // Not destroy: grpc-js sends the status when it sees the event.
        call.emit('error', callStatus(error));
      },
    );
  };
}

/** The same for calls that take many messages. */
export function receiving<Request, Response>(
  rpc: string,
  handler: ReceiveHandler<Request, Response>,
  log: Log,
): handleClientStreamingCall<Request, Outgoing<Response>> {
  const rpcLog = log.child({ rpc });
  return (call: ServerReadableStream<Request, Outgoing<Response>>, callback: sendUnaryData<Outgoing<Response>>) => {
    const measure = new Measure(rpc, rpcLog);
    const messages = call as AsyncIterable<Request>;
    const work = async (): Promise<Outgoing<Response>> => handler(messages, { signal: signalOf(call), log: rpcLog });
    work().then(
      (response) => {
        measure.succeeded({});
        callback(null, response);
      },
      (error: unknown) => {
        measure.failed(error, {});
        callback(callStatus(error));
      },
    );
  };
}
