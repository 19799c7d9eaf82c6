/** One line of a CRI log file: `2026-11-22T10:00:00.000000001Z stdout F text`. */
export interface LogPiece {
  readonly stream: 'stdout' | 'stderr';
  /** What the program wrote, with its line end where there was one. */
  readonly content: Buffer;
}

const space = 0x20;
const lineEnd = 0x0a;
/** P: more of this line follows. The first of several tags. */
const partial = 'P';

/** Undefined for what is not a line of a log. `line` is without its line end. */
export function parseLogLine(line: Buffer): LogPiece | undefined {
  const afterTime = line.indexOf(space);
  const afterStream = line.indexOf(space, afterTime + 1);
  const afterTags = line.indexOf(space, afterStream + 1);
  if (afterTime < 0 || afterStream < 0 || afterTags < 0) return undefined;
  const stream = line.toString('latin1', afterTime + 1, afterStream);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  const [tag] = line.toString('latin1', afterStream + 1, afterTags).split(':');
  const text = line.subarray(afterTags + 1);
  return { stream, content: tag === partial ? text : Buffer.concat([text, Buffer.of(lineEnd)]) };
}

/** Cuts a file that grows into the pieces of its whole lines; what is not whole yet waits. */
export class LogPieces {
  #rest = Buffer.alloc(0);

  push(chunk: Uint8Array): LogPiece[] {
    const data = Buffer.concat([this.#rest, chunk]);
    const pieces: LogPiece[] = [];
    let start = 0;
    for (let end = data.indexOf(lineEnd); end >= 0; end = data.indexOf(lineEnd, start)) {
      const piece = parseLogLine(data.subarray(start, end));
      if (piece !== undefined) pieces.push(piece);
      start = end + 1;
    }
    this.#rest = Buffer.from(data.subarray(start));
    return pieces;
  }
}
