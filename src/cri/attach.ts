import { askedStreams } from './asked-streams.ts';
import type { UnaryHandler } from './call.ts';
import { invalid } from './fields.ts';
import type { AttachRequest, AttachResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

export function attach({ containers, streaming }: CriServices): UnaryHandler<AttachRequest, AttachResponse> {
  return async (request) => {
    const containerId = needContainer(containers, request.container_id);
    const streams = askedStreams(request);
    const { tty } = containers.interactive(containerId);
    if (streams.tty !== tty) {
      throw invalid('tty', `is ${String(streams.tty)}, but container ${containerId} has ${tty ? 'a' : 'no'} terminal`);
    }
    return { url: streaming.urlFor({ kind: 'attach', containerId, streams }) };
  };
}
