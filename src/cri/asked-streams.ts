import { invalid } from './fields.ts';
import type { AskedStreams } from './streaming/stream-request.ts';

/** What Exec and Attach say about streams, checked. */
export function askedStreams({ stdin, stdout, stderr, tty }: AskedStreams): AskedStreams {
  if (tty && stderr) throw invalid('stderr', 'is set with tty, where there is one output only');
  if (!stdin && !stdout && !stderr) throw invalid('stdin, stdout, stderr', 'are all unset, one of them is needed');
  return { stdin, stdout, stderr, tty };
}
