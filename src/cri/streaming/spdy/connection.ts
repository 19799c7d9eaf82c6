import type { Duplex } from 'node:stream';
import { encodeControl, encodeDataHead } from './frame-encoder.ts';
import { FrameDecoder } from './frame-decoder.ts';
import {
  type ControlFrame,
  type DataFrame,
  type Frame,
  goAwayStatus,
  resetStatus,
  settingIds,
  SpdyProtocolError,
} from './frames.ts';
import { decodeHeaders } from './header-block.ts';
import { HeaderDeflater } from './header-deflater.ts';
import { HeaderInflater } from './header-inflater.ts';
import { SpdyStream, type StreamPort } from './stream.ts';

/** Of each stream, and of a connection as long as nobody says otherwise. */
const initialWindow = 64 * 1024;
/** Received and not yet consumed bytes of all streams together; told to the peer as the connection's window. */
const maxWaitingBytes = 8 * 1024 * 1024;
/** The same of one stream, for peers that ignore windows: above it nothing more is read from the connection. */
const maxStreamWaitingBytes = 1024 * 1024;
/** Above it nothing is read either: answers to a peer that asks and does not listen. */
const maxUnsentBytes = 1024 * 1024;
const maxStreams = 2000;
/** While nothing is read, a ping finds out whether the peer is still there. */
const livenessMs = 10_000;

/**
 * The server's side of a SPDY/3.1 connection.
 *
 * Flow control: Kubernetes' clients (moby/spdystream, docker/spdystream before) know WINDOW_UPDATE
 * and SETTINGS as frames and heed neither; they never send one, and they send as fast as TCP takes
 * it. So a peer's windows count once it has sent such a frame; before, TCP alone slows this side
 * down. A peer that has sent more than its windows allowed ignores them: it gets no more updates,
 * which would only fill its queues, and is held up by not reading when too much waits for a consumer.
 */
export class SpdyConnection implements StreamPort {
  readonly #transport: Duplex;
  readonly #accept: (stream: SpdyStream) => void;
  readonly #decoder = new FrameDecoder();
  readonly #deflater = new HeaderDeflater();
  readonly #streams = new Map<number, SpdyStream>();
  readonly #gone = new AbortController();
  readonly #waiting = new Set<() => void>();
  #reading: PromiseWithResolvers<undefined> | undefined;
  #lastStreamId = 0;
  #pings = 0;
  #ending = false;

  #peerWindows: 'unknown' | 'kept' | 'ignored' = 'unknown';
  #sendWindow = initialWindow;
  #initialSendWindow = initialWindow;
  #receiveWindow = maxWaitingBytes;
  #credit = 0;
  #waitingBytes = 0;

  /** `accept` is called with each new stream and has to accept or to destroy it, sooner or later. */
  constructor(transport: Duplex, accept: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#accept = accept;
    transport.on('drain', () => {
      this.#resumeAll();
    });
    transport.on('close', () => {
      this.#lost('the client is gone');
    });
    // Told by `run`, or by the close that follows.
    transport.on('error', () => undefined);
  }

  /** Aborts when the connection has ended, whoever ended it. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Serves the connection until it ends; rejects when the peer breaks the protocol. */
  async run(): Promise<void> {
    using inflater = new HeaderInflater();
    this.#send({ type: 'window-update', streamId: 0, delta: maxWaitingBytes - initialWindow });
    try {
      for await (const chunk of this.#transport) {
        for (const frame of this.#decoder.push(chunk as Buffer)) {
          if (frame.type === 'data') this.#data(frame);
          else await this.#control(frame, inflater);
        }
        if (this.#crowded()) await this.#room();
      }
    } catch (error) {
      if (this.#gone.signal.aborted) return;
      if (error instanceof SpdyProtocolError) {
        this.#send({ type: 'go-away', lastStreamId: this.#lastStreamId, status: goAwayStatus.protocolError });
        throw error;
      }
      // Anything else is the transport's: a client that went away in its own manner.
    } finally {
      this.#lost('the client is gone');
      this.#transport.destroy();
    }
  }

  /** Says that no more streams are welcome, sends what is waiting, and closes this side. */
  end(): void {
    if (this.#ending || this.#gone.signal.aborted) return;
    this.#ending = true;
    this.#send({ type: 'go-away', lastStreamId: this.#lastStreamId, status: goAwayStatus.ok });
    this.#transport.end();
  }

  #lost(message: string): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort();
    for (const stream of [...this.#streams.values()]) stream.abandon(message);
    this.#resumeAll();
    this.#reading?.resolve(undefined);
  }

  // ---------------------------------------------------------------- receiving

  #data({ streamId, data, fin }: DataFrame): void {
    const bytes = data.length;
    this.#receiveWindow -= bytes;
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (streamId === 0 || streamId > this.#lastStreamId) {
        throw new SpdyProtocolError(`data on the stream ${String(streamId)}, which was never opened`);
      }
      // It was closed here while this was on its way.
      this.#earn(bytes);
      return;
    }
    stream.receiveWindow -= bytes;
    if (stream.receiveWindow < 0 || this.#receiveWindow < 0) this.#peerWindows = 'ignored';
    this.#waitingBytes += bytes;
    stream.receive(data, fin);
  }

  async #control(frame: ControlFrame, inflater: HeaderInflater): Promise<void> {
    switch (frame.type) {
      case 'syn-stream':
        this.#open(frame, await inflater.inflate(frame.block));
        break;
      case 'syn-reply':
      case 'headers':
        // Of no use here, but the next block builds on it.
        await inflater.inflate(frame.block);
        if (frame.fin) this.#streams.get(frame.streamId)?.receive(Buffer.alloc(0), true);
        break;
      case 'rst-stream':
        this.#streams.get(frame.streamId)?.abandon('the client has reset the stream');
        break;
      case 'ping':
        // Ours have even numbers; what comes back proves itself by having come.
        if (frame.id % 2 === 1) this.#send(frame);
        break;
      case 'settings': {
        const window = frame.values.get(settingIds.initialWindowSize);
        if (window !== undefined) this.#resizeWindows(window);
        break;
      }
      case 'window-update':
        this.#keepsWindows();
        if (frame.streamId === 0) this.#sendWindow += frame.delta;
        else {
          const stream = this.#streams.get(frame.streamId);
          if (stream !== undefined) stream.sendWindow += frame.delta;
        }
        this.#resumeAll();
        break;
      case 'go-away':
        // No more streams from here, which are none anyway. The peer closes when it is done.
        break;
    }
  }

  #open(frame: Extract<Frame, { type: 'syn-stream' }>, block: Buffer): void {
    const { streamId, fin } = frame;
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId) {
      throw new SpdyProtocolError(`a stream ${String(streamId)} after the stream ${String(this.#lastStreamId)}`);
    }
    this.#lastStreamId = streamId;
    if (this.#ending || this.#streams.size >= maxStreams) {
      this.#send({ type: 'rst-stream', streamId, status: resetStatus.refusedStream });
      return;
    }
    const stream = new SpdyStream(this, streamId, decodeHeaders(block), initialWindow, this.#initialSendWindow);
    this.#streams.set(streamId, stream);
    if (fin) stream.receive(Buffer.alloc(0), true);
    this.#accept(stream);
  }

  #keepsWindows(): void {
    if (this.#peerWindows === 'unknown') this.#peerWindows = 'kept';
  }

  #resizeWindows(window: number): void {
    this.#keepsWindows();
    for (const stream of this.#streams.values()) stream.sendWindow += window - this.#initialSendWindow;
    this.#initialSendWindow = window;
    this.#resumeAll();
  }

  #crowded(): boolean {
    if (this.#gone.signal.aborted) return false;
    if (this.#waitingBytes > maxWaitingBytes || this.#transport.writableLength > maxUnsentBytes) return true;
    // Only such a peer can have piled up more than its window.
    if (this.#peerWindows !== 'ignored') return false;
    for (const { waitingBytes } of this.#streams.values()) if (waitingBytes > maxStreamWaitingBytes) return true;
    return false;
  }

  /** Waits until a consumer has made room, or the connection is lost. */
  async #room(): Promise<void> {
    const liveness = setInterval(() => {
      this.#pings += 1;
      this.#send({ type: 'ping', id: (this.#pings * 2) % 0x8000_0000 || 2 });
    }, livenessMs);
    try {
      while (this.#crowded()) {
        this.#reading = Promise.withResolvers<undefined>();
        await this.#reading.promise;
      }
    } finally {
      clearInterval(liveness);
      this.#reading = undefined;
    }
  }

  // ---------------------------------------------------------------- StreamPort

  released(stream: SpdyStream, bytes: number): void {
    this.#waitingBytes -= bytes;
    stream.credit += bytes;
    if (this.#peerWindows !== 'ignored' && stream.credit >= initialWindow / 2 && this.#streams.has(stream.id)) {
      this.#send({ type: 'window-update', streamId: stream.id, delta: stream.credit });
      stream.receiveWindow += stream.credit;
      stream.credit = 0;
    }
    this.#earn(bytes);
    this.#reading?.resolve(undefined);
  }

  /** The connection's window opens again by what nobody holds any more. */
  #earn(bytes: number): void {
    this.#credit += bytes;
    if (this.#peerWindows === 'ignored' || this.#credit < maxWaitingBytes / 2) return;
    this.#send({ type: 'window-update', streamId: 0, delta: this.#credit });
    this.#receiveWindow += this.#credit;
    this.#credit = 0;
  }

  allowance(streamWindow: number): number {
    if (this.#peerWindows !== 'kept') return Number.POSITIVE_INFINITY;
    return Math.max(0, Math.min(streamWindow, this.#sendWindow));
  }

  sendData(stream: SpdyStream, data: Buffer, fin: boolean): boolean {
    if (!this.#transport.writable) return true;
    stream.sendWindow -= data.length;
    this.#sendWindow -= data.length;
    const head = encodeDataHead(stream.id, data.length, fin);
    if (data.length === 0) return this.#transport.write(head);
    this.#transport.cork();
    this.#transport.write(head);
    const open = this.#transport.write(data);
    this.#transport.uncork();
    return open;
  }

  resume(callback: () => void): void {
    if (this.#gone.signal.aborted) callback();
    else this.#waiting.add(callback);
  }

  /** Whoever cannot go on yet comes back. */
  #resumeAll(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const callback of waiting) callback();
    this.#reading?.resolve(undefined);
  }

  sendReply(stream: SpdyStream): void {
    const block = this.#deflater.deflate(Buffer.alloc(4));
    this.#send({ type: 'syn-reply', streamId: stream.id, fin: false, block });
  }

  sendReset(stream: SpdyStream, status: number): void {
    this.#send({ type: 'rst-stream', streamId: stream.id, status });
  }

  forget(stream: SpdyStream): void {
    this.#streams.delete(stream.id);
  }

  #send(frame: ControlFrame): void {
    if (this.#transport.writable) this.#transport.write(encodeControl(frame));
  }
}
