import type { UnaryHandler } from './call.ts';
import { argv, timeoutSeconds } from './fields.ts';
import type { ExecSyncRequest, ExecSyncResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

/** A non-zero exit code is an answer, not an error. */
export function execSync({ containers }: CriServices): UnaryHandler<ExecSyncRequest, ExecSyncResponse> {
  return async (request, { signal }) => {
    const id = needContainer(containers, request.container_id);
    const { stdout, stderr, exitCode } = await containers.execSync(
      id,
      argv(request.cmd, 'cmd'),
      timeoutSeconds(request.timeout),
      signal,
    );
    return { stdout, stderr, exit_code: exitCode };
  };
}
