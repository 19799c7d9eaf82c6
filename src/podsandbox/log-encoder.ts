/**
 * The log format of CRI: `<RFC 3339 time with nanoseconds> <stdout|stderr> <P|F> <content>\n`.
 * The encoder is deterministic: the same records give the same bytes. Recovery depends on that, it
 * tells how much of a record was already written by the length of the file.
 */

/** Longest content of one log line; more follows in the next, tagged P until the line's end. */
export const maxLineBytes = 16 * 1024;

export type LogChannel = 'stdout' | 'stderr';

/** Unfinished lines. Everything the encoder remembers. */
export interface PendingLines {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

export const nothingPending: PendingLines = { stdout: new Uint8Array(), stderr: new Uint8Array() };

const newline = 0x0a;
const carriageReturn = 0x0d;

export function formatTime(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${(ns % 1_000_000_000n).toString().padStart(9, '0')}Z`;
}

export class LogEncoder {
  #pending: Record<LogChannel, Buffer>;

  constructor(pending: PendingLines) {
    this.#pending = { stdout: Buffer.from(pending.stdout), stderr: Buffer.from(pending.stderr) };
  }

  get pending(): PendingLines {
    return { ...this.#pending };
  }

  /** The log lines that `data`, read from the container at `timeNs`, completes. */
  encode(channel: LogChannel, timeNs: bigint, data: Uint8Array): Buffer {
    const head = `${formatTime(timeNs)} ${channel} `;
    const out: Buffer[] = [];
    let rest = Buffer.concat([this.#pending[channel], data]);
    for (;;) {
      const end = rest.indexOf(newline);
      const length = end < 0 ? rest.length : end;
      if (length > maxLineBytes) {
        out.push(Buffer.from(`${head}P `), rest.subarray(0, maxLineBytes), Buffer.from('\n'));
        rest = rest.subarray(maxLineBytes);
      } else if (end >= 0) {
        const content = end > 0 && rest[end - 1] === carriageReturn ? end - 1 : end;
        out.push(Buffer.from(`${head}F `), rest.subarray(0, content), Buffer.from('\n'));
        rest = rest.subarray(end + 1);
      } else {
        break;
      }
    }
    this.#pending[channel] = rest;
    return Buffer.concat(out);
  }

  /** What is left at the end of the streams, tagged P: its line never ended. */
  end(timeNs: bigint): Buffer {
    const out: Buffer[] = [];
    for (const channel of ['stdout', 'stderr'] as const) {
      const rest = this.#pending[channel];
      if (rest.length > 0) out.push(Buffer.from(`${formatTime(timeNs)} ${channel} P `), rest, Buffer.from('\n'));
      this.#pending[channel] = Buffer.alloc(0);
    }
    return Buffer.concat(out);
  }
}
