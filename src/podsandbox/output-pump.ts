import { setTimeout as delay } from 'node:timers/promises';
import type { Exit, OutputRecord } from '../agent/gen/agent/v1/agent_pb.js';
import { Channel } from '../agent/gen/agent/v1/agent_pb.js';
import { AppError, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { AckQueue } from './ack-queue.ts';
import type { OutputTap, OutputTaps } from './interactive/output-tap.ts';
import { LogEncoder, nothingPending, type PendingLines } from './log-encoder.ts';
import { bytesBehind, LogFile, type LogPosition } from './log-file.ts';

/**
 * How far a container's output is safely on disk. Written after the bytes and before the agent is
 * told to forget them, so that a daemon killed anywhere in between loses and repeats nothing.
 */
export interface OutputCheckpoint {
  readonly sequence: bigint;
  /** Undefined until the log file was first opened, and for containers without one. */
  readonly position: LogPosition | undefined;
  readonly pending: PendingLines;
}

export const outputStart: OutputCheckpoint = { sequence: 0n, position: undefined, pending: nothingPending };

/** What the pump reads from; GuestAgent has it. */
export interface OutputSource {
  output(
    requests: AsyncIterable<{ readonly id?: string; readonly acknowledged: bigint }>,
    signal: AbortSignal,
  ): AsyncIterable<OutputRecord>;
}

export interface OutputPumpOptions {
  readonly source: OutputSource;
  readonly containerId: string;
  /** Absolute, or undefined when the output goes nowhere. */
  readonly logPath: string | undefined;
  readonly checkpoint: OutputCheckpoint;
  readonly save: (checkpoint: OutputCheckpoint) => Promise<void>;
  /** The container has ended and all its output is in the file. */
  readonly onExit: (exit: Exit) => Promise<void>;
  /** The first bytes of all are in the log file. */
  readonly firstLine?: (() => void) | undefined;
  readonly log: Log;
}

/** Past this much unwritten output the pump reads no more from the guest. */
const batchBytes = 512 * 1024;
const retryMs = 50;
/** Pause after a failure that is not a lost connection, such as a full disk. */
const troubleMs = 1_000;
/** How long a container that has exited may be held back because its last output cannot be written. */
const lastWordsMs = 20_000;

/** Carries one container's output from the agent into its log file and to attached clients, until its exit. */
export class OutputPump implements OutputTaps {
  readonly #options: OutputPumpOptions;
  readonly #stopped = new AbortController();
  readonly #encoder: LogEncoder;
  readonly #finished: Promise<void>;
  readonly #openTried = Promise.withResolvers<undefined>();
  #file: LogFile | undefined;
  /** Bytes the encoder will produce again although an earlier daemon has written them. */
  #skip = 0;
  #batch: Buffer[] = [];
  #batchSize = 0;
  /** Last record that went into the encoder. */
  #seen: bigint;
  #written: bigint;
  /** Unfinished lines as they were after the last record written. */
  #writtenPending: PendingLines;
  /** When the exit was read, so that a full disk cannot keep a dead container running for ever. */
  #exitReadAt: number | undefined;
  /** All writing happens in this chain, one step after the other. */
  #writing: Promise<void> = Promise.resolve();
  #flushScheduled = false;
  #firstLineTold = false;
  #acks: AckQueue | undefined;
  readonly #taps = new Set<OutputTap>();
  /** No more output will come. */
  #over = false;

  private constructor(options: OutputPumpOptions) {
    this.#options = options;
    this.#encoder = new LogEncoder(options.checkpoint.pending);
    this.#seen = options.checkpoint.sequence;
    this.#written = options.checkpoint.sequence;
    this.#writtenPending = options.checkpoint.pending;
    this.#finished = this.#run();
  }

  static start(options: OutputPumpOptions): OutputPump {
    return new OutputPump(options);
  }

  /** Resolves once there is a log file; also when there can be none yet, for then the container's output waits. */
  async opened(): Promise<void> {
    await this.#openTried.promise;
  }

  /** Ends the pump without an exit: the container is removed, or its VM is gone. What was read is written. */
  async stop(): Promise<void> {
    this.#stopped.abort(new AppError('cancelled', 'output pump stopped'));
    this.#over = true;
    const gone = new AppError('unavailable', `container "${this.#options.containerId}" or its output is gone`);
    for (const tap of this.#taps) tap.fail(gone);
    await this.#finished;
    await this.#enqueue(() => this.#writeBatch());
    await this.#file?.close();
    this.#file = undefined;
  }

  /** Goes on in a new file at the log path, which exists when this returns. */
  async reopen(): Promise<void> {
    const { logPath } = this.#options;
    if (logPath === undefined) return;
    await this.#enqueue(async () => {
      await this.#writeBatch();
      // Not opened yet, or closed after the exit: the caller still finds a file there.
      if (this.#file === undefined) return (await LogFile.open(logPath)).close();
      await this.#file.reopen();
      // Records that came meanwhile are in no file yet.
      await this.#options.save(this.#checkpoint(this.#written, this.#writtenPending));
    });
  }

  tap(tap: OutputTap): void {
    if (this.#over) tap.end();
    else this.#taps.add(tap);
  }

  untap(tap: OutputTap): void {
    this.#taps.delete(tap);
  }

  async #run(): Promise<void> {
    const { log } = this.#options;
    while (!this.#isStopped()) {
      try {
        try {
          await this.#openFile();
        } finally {
          this.#openTried.resolve(undefined);
        }
        if (await this.#session()) return;
        await this.#pause(retryMs);
      } catch (error) {
        if (this.#isStopped()) return;
        const lost = error instanceof AppError && error.kind === 'unavailable';
        if (!lost) log.warn({ err: error }, 'cannot read the output of a container, trying again');
        await this.#pause(lost ? retryMs : troubleMs);
      }
    }
  }

  async #openFile(): Promise<void> {
    const { logPath, checkpoint } = this.#options;
    if (logPath === undefined || this.#file !== undefined) return;
    if (checkpoint.position !== undefined) this.#skip = await bytesBehind(logPath, checkpoint.position);
    this.#file = await LogFile.open(logPath);
    // From here on a daemon that dies leaves a position behind that its successor can measure from.
    if (checkpoint.position === undefined)
      await this.#options.save(this.#checkpoint(this.#written, this.#writtenPending));
  }

  /** One Output call; true when the exit has been handled. */
  async #session(): Promise<boolean> {
    const acks = new AckQueue(this.#options.containerId, this.#written);
    this.#acks = acks;
    try {
      for await (const record of this.#options.source.output(acks, this.#stopped.signal)) {
        // The exit is handled again when that failed the first time; everything else only once.
        if (record.sequence > this.#seen) this.#accept(record);
        if (record.exit !== undefined) {
          this.#exitReadAt ??= Date.now();
          await this.#enqueue(async () => {
            await this.#writeBatch();
            await this.#file?.close();
            this.#file = undefined;
          });
          await this.#options.onExit(record.exit);
          this.#over = true;
          for (const tap of this.#taps) tap.end();
          acks.push(record.sequence);
          return true;
        }
        if (this.#batchSize >= batchBytes) await this.#enqueue(() => this.#writeBatch());
        else this.#flushSoon();
        // What has come is on its way into the log by now, whoever is slow.
        for (const tap of this.#taps) if (tap.isFull) await tap.room(this.#stopped.signal);
      }
      return false;
    } finally {
      acks.end();
    }
  }

  #accept(record: OutputRecord): void {
    this.#seen = record.sequence;
    const channel = record.channel === Channel.STDERR ? 'stderr' : 'stdout';
    for (const tap of this.#taps) tap.push({ channel, data: record.data });
    if (this.#options.logPath === undefined) return;
    this.#push(this.#encoder.encode(channel, record.timeNs, record.data));
    if (record.exit !== undefined) this.#push(this.#encoder.end(record.exit.exitedAtNs));
  }

  #push(lines: Buffer): void {
    const skipped = Math.min(this.#skip, lines.length);
    this.#skip -= skipped;
    if (skipped === lines.length) return;
    this.#batch.push(lines.subarray(skipped));
    this.#batchSize += lines.length - skipped;
  }

  #flushSoon(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    void this.#enqueue(async () => {
      this.#flushScheduled = false;
      await this.#writeBatch();
    });
  }

  #enqueue(step: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(step);
    this.#writing = done.catch(() => undefined);
    return done;
  }

  /** Writes what has been read, records it, and lets the agent forget it. Tries until it works or the pump is stopped. */
  async #writeBatch(): Promise<void> {
    if (this.#seen === this.#written) return;
    let bytes = Buffer.concat(this.#batch);
    const sequence = this.#seen;
    const pending = this.#encoder.pending;
    this.#batch = [];
    this.#batchSize = 0;
    for (;;) {
      const before = this.#file?.position.size ?? 0;
      try {
        await this.#file?.append(bytes);
        this.#tellFirstLine(before);
        if (this.#file !== undefined) await this.#options.save(this.#checkpoint(sequence, pending));
        this.#written = sequence;
        this.#writtenPending = pending;
        this.#acks?.push(sequence);
        return;
      } catch (error) {
        this.#options.log.error(
          { err: error, path: this.#options.logPath },
          `cannot write the log of a container: ${messageOf(error)}; its output waits`,
        );
        bytes = bytes.subarray((this.#file?.position.size ?? 0) - before);
        if (this.#isStopped()) return;
        if (this.#exitReadAt !== undefined && Date.now() - this.#exitReadAt > lastWordsMs) {
          this.#options.log.error({ lost: bytes.length }, 'the end of the log of a container that has exited is lost');
          return;
        }
        await this.#pause(troubleMs);
      }
    }
  }

  /** Once: whatever comes later is no longer at the begin of the file. */
  #tellFirstLine(sizeBefore: number): void {
    if (this.#firstLineTold || (this.#file?.position.size ?? 0) === sizeBefore) return;
    this.#firstLineTold = true;
    this.#options.firstLine?.();
  }

  #checkpoint(sequence: bigint, pending: PendingLines): OutputCheckpoint {
    return { sequence, position: this.#file?.position, pending };
  }

  #isStopped(): boolean {
    return this.#stopped.signal.aborted;
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stopped.signal }).catch(() => undefined);
  }
}
