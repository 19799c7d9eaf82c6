import type { RawData, WebSocket } from 'ws';
import { AppError } from '../../../platform/errors.ts';
import { Channel, type ChannelPort } from './channel.ts';
import { type ChannelEncoding, decodeChannelMessage, encodeChannelMessage } from './channel-codec.ts';

/** Received and not yet consumed; above it nothing more is read. */
const maxWaitingBytes = 1024 * 1024;
/** While nothing is read, pings go unanswered; client-go gives up after a minute without a pong. */
const livenessMs = 10_000;
/** In v5: the client will write no more on the channel whose number follows. */
const closeChannel = 255;
const normalClosure = 1000;
const protocolErrorClosure = 1002;

export interface ChannelsOptions {
  readonly encoding: ChannelEncoding;
  /** Channels that the client may write to; what it writes elsewhere is dropped. */
  readonly readable: readonly number[];
  /** Whether the client can close a channel (v5). */
  readonly closable: boolean;
}

/** The channels of one WebSocket connection. */
export class Channels implements ChannelPort {
  readonly #socket: WebSocket;
  readonly #options: ChannelsOptions;
  readonly #channels = new Map<number, Channel>();
  readonly #gone = new AbortController();
  #waitingBytes = 0;
  #liveness: NodeJS.Timeout | undefined;

  constructor(socket: WebSocket, options: ChannelsOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on('message', (raw) => {
      this.#message(raw);
    });
    // A close follows.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#lost();
    });
  }

  /** Aborts when the connection has ended, whoever ended it. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  channel(number: number): Channel {
    const known = this.#channels.get(number);
    if (known !== undefined) return known;
    const channel = new Channel(this, number);
    this.#channels.set(number, channel);
    return channel;
  }

  /** Tells the client that everything has been said. */
  end(): void {
    this.#read();
    this.#socket.close(normalClosure);
  }

  #message(raw: RawData): void {
    const message = decodeChannelMessage(this.#options.encoding, raw as Buffer);
    // Some clients send an empty message to try the connection.
    if (message === undefined) return;
    const { channel: number, data } = message;
    if (this.#options.closable && number === closeChannel) {
      const [closed] = data;
      if (closed !== undefined && this.#options.readable.includes(closed)) this.channel(closed).finish();
      else this.#socket.close(protocolErrorClosure, 'close of a channel that is not open');
      return;
    }
    if (!this.#options.readable.includes(number)) return;
    this.#waitingBytes += data.length;
    this.channel(number).receive(data);
    if (this.#waitingBytes > maxWaitingBytes) this.#pause();
  }

  #pause(): void {
    if (this.#liveness !== undefined || this.#gone.signal.aborted) return;
    this.#socket.pause();
    this.#liveness = setInterval(() => {
      // Unasked for: keeps the client's patience, and fails when it is gone.
      this.#socket.pong();
    }, livenessMs);
  }

  #read(): void {
    if (this.#liveness === undefined) return;
    clearInterval(this.#liveness);
    this.#liveness = undefined;
    this.#socket.resume();
  }

  #lost(): void {
    clearInterval(this.#liveness);
    this.#gone.abort(new AppError('cancelled', 'the client is gone'));
    for (const channel of this.#channels.values()) channel.abandon();
  }

  // ---------------------------------------------------------------- ChannelPort

  send(channel: number, data: Buffer, sent: () => void): void {
    const message = encodeChannelMessage(this.#options.encoding, { channel, data });
    this.#socket.send(message, { binary: typeof message !== 'string' }, () => {
      sent();
    });
  }

  released(bytes: number): void {
    this.#waitingBytes -= bytes;
    if (this.#waitingBytes <= maxWaitingBytes) this.#read();
  }
}
