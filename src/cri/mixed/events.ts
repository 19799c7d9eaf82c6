import type { Outgoing, StreamHandler } from '../call.ts';
import type * as cri from '../gen/cri-types.ts';
import type { HostRuntime } from './host-runtime.ts';

type Event = Outgoing<cri.ContainerEventResponse>;
type Events = StreamHandler<cri.GetEventsRequest, cri.ContainerEventResponse>;

/** Events of both runtimes as they come, each one's in its order. */
export function containerEvents(own: Events, host: HostRuntime): Events {
  return (request, call) => {
    const ended = new AbortController();
    const signal = AbortSignal.any([call.signal, ended.signal]);
    return interleaved([own(request, { ...call, signal }), host.events(signal)], () => {
      ended.abort();
    });
  };
}

/** `end` is called when nobody reads any more: it makes the sources end. Fails with the first that fails. */
async function* interleaved(sources: readonly AsyncIterable<Event>[], end: () => void): AsyncGenerator<Event> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const next = async (iterator: AsyncIterator<Event>) => ({ iterator, result: await iterator.next() });
  const pending = new Map(iterators.map((iterator) => [iterator, next(iterator)]));
  try {
    while (pending.size > 0) {
      const { iterator, result } = await Promise.race(pending.values());
      if (result.done === true) {
        pending.delete(iterator);
        continue;
      }
      pending.set(iterator, next(iterator));
      yield result.value;
    }
  } finally {
    end();
    await Promise.allSettled(pending.values());
    for (const iterator of iterators) await iterator.return?.();
  }
}
