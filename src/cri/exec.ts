import { askedStreams } from './asked-streams.ts';
import type { UnaryHandler } from './call.ts';
import { argv } from './fields.ts';
import type { ExecRequest, ExecResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

/** Nothing runs before a client connects to the URL. */
export function exec({ containers, streaming }: CriServices): UnaryHandler<ExecRequest, ExecResponse> {
  return async (request) => {
    const containerId = needContainer(containers, request.container_id);
    const streams = askedStreams(request);
    const command = argv(request.cmd, 'cmd');
    containers.interactive(containerId);
    return { url: streaming.urlFor({ kind: 'exec', containerId, argv: command, streams }) };
  };
}
