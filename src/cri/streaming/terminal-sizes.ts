import type { Readable } from 'node:stream';
import { z } from 'zod';
import type { TerminalSize } from '../../podsandbox/model.ts';

const cells = z.int().min(0).max(0xffff);
const message = z.looseObject({ Width: cells, Height: cells });
/** Longer than any message; what is longer without being one never will be. */
const maxMessageLength = 4096;

/**
 * The sizes in a stream of JSON objects, one after the other: {"Width":80,"Height":24}. Sizes with a
 * zero in them, which clients send while they do not know, are left out. Ends with the stream, also
 * when that breaks off; what is no such object is told to `problem` and ends it too.
 */
export async function* terminalSizes(
  stream: Readable,
  problem: (text: string) => void,
): AsyncGenerator<TerminalSize, void, undefined> {
  let text = '';
  try {
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
      text += (chunk as Buffer).toString('utf8');
      for (let end = text.indexOf('}'); end >= 0; end = text.indexOf('}')) {
        const { Width: width, Height: height } = message.parse(JSON.parse(text.slice(0, end + 1)));
        text = text.slice(end + 1);
        if (width > 0 && height > 0) yield { width, height };
      }
      if (text.length > maxMessageLength) throw new SyntaxError('no JSON object');
    }
  } catch (error) {
    // Otherwise it is the client that has gone, of which everybody is told.
    if (error instanceof SyntaxError || error instanceof z.ZodError)
      problem(`not a terminal size: ${text.slice(0, 100)}`);
  }
}
