import { join } from 'node:path';
import { execa } from 'execa';

const program = join(import.meta.dirname, '../../bin/kelyfos');

export interface CommandResult {
  readonly exitCode: number | undefined;
  readonly stdout: Uint8Array;
  readonly stderr: string;
}

/** One of the commands that talk to a running daemon, run to its end. `stdin`: bytes for its standard input. */
export async function kelyfos(
  socket: string,
  args: readonly string[],
  stdin?: Uint8Array,
): Promise<CommandResult & { readonly text: string }> {
  const result = await execa(program, [...args, '--socket', socket], {
    ...{ reject: false, timeout: 120_000, encoding: 'buffer', stripFinalNewline: false },
    ...(stdin === undefined ? { stdin: 'ignore' } : { input: stdin }),
  });
  const stdout = Buffer.from(result.stdout);
  const stderr = Buffer.from(result.stderr).toString();
  return { exitCode: result.exitCode, stdout, stderr, text: stdout.toString() };
}
