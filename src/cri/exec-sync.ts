import type { UnaryHandler } from './call.ts';
import { invalid, nonEmpty, plain, timeoutSeconds } from './fields.ts';
import type { ExecSyncRequest, ExecSyncResponse } from './gen/cri-types.ts';
import { needContainer } from './resolve.ts';
import type { CriServices } from './services.ts';

/** A non-zero exit code is an answer, not an error. */
export function execSync({ containers }: CriServices): UnaryHandler<ExecSyncRequest, ExecSyncResponse> {
  return async (request, { signal }) => {
    const id = needContainer(containers, request.container_id);
    const [program] = request.cmd;
    if (program === undefined) throw invalid('cmd', 'is empty');
    nonEmpty(program, 'cmd[0]');
    request.cmd.forEach((word) => plain(word, 'cmd'));
    const { stdout, stderr, exitCode } = await containers.execSync(
      id,
      request.cmd,
      timeoutSeconds(request.timeout),
      signal,
    );
    return { stdout, stderr, exit_code: exitCode };
  };
}
