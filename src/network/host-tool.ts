import { execa, ExecaError } from 'execa';
import { AppError } from '../platform/errors.ts';

/** ip, tc and sysctl answer in milliseconds; the kernel may make them wait for a lock, never this long. */
const TIMEOUT_MS = 20_000;

interface ToolOptions {
  /** Path of the network namespace to run in; the daemon's own when absent. */
  readonly netns?: string;
  readonly input?: string;
}

/**
 * Runs one of the host's network tools and returns its output. A namespace is entered by nsenter and
 * not by `ip -n`: that wants names below /run/netns, and remounts /sys for each command.
 */
export async function runHostTool(argv: readonly string[], options: ToolOptions = {}): Promise<string> {
  const [file = '', ...args] = options.netns === undefined ? argv : ['nsenter', `--net=${options.netns}`, ...argv];
  try {
    const { stdout } = await execa(file, args, {
      ...(options.input === undefined ? { stdin: 'ignore' } : { input: options.input }),
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    return stdout;
  } catch (error) {
    if (!(error instanceof ExecaError)) throw error;
    const place = options.netns === undefined ? '' : ` in ${options.netns}`;
    const said = typeof error.stderr === 'string' && error.stderr !== '' ? error.stderr : error.shortMessage;
    const why = error.timedOut ? `no answer in ${String(TIMEOUT_MS)} ms` : said;
    throw new AppError('internal', `${argv.join(' ')}${place}: ${why.trim().replaceAll('\n', '; ')}`, { cause: error });
  }
}

/** Several commands of `ip` or `tc` in one process. The first that fails ends it. */
export async function runBatch(tool: 'ip' | 'tc', lines: readonly string[], netns: string): Promise<string> {
  return runHostTool([tool, ...(tool === 'ip' ? ['-json'] : []), '-batch', '-'], {
    netns,
    input: `${lines.join('\n')}\n`,
  });
}
