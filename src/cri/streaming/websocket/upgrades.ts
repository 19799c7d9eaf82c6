import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';

/** Other clients than client-go put a whole input into one message; it is held in memory as a whole. */
const maxMessageBytes = 32 * 1024 * 1024;

/**
 * Turns HTTP connections into WebSocket connections with a given subprotocol. The library is not
 * shown what the client offers: it refuses names with a slash, and the name of the tunnel has one.
 */
export class WebSocketUpgrades {
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: maxMessageBytes, perMessageDeflate: false });
  readonly #chosen = new WeakMap<IncomingMessage, string>();

  constructor() {
    this.#server.on('headers', (headers, request) => {
      const protocol = this.#chosen.get(request) ?? '';
      if (protocol !== '') headers.push(`Sec-WebSocket-Protocol: ${protocol}`);
    });
  }

  /** An empty protocol is not named. `accepted` is not called for what is no WebSocket handshake, which is answered. */
  accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    protocol: string,
    accepted: (webSocket: WebSocket) => void,
  ): void {
    this.#chosen.set(request, protocol);
    delete request.headers['sec-websocket-protocol'];
    this.#server.handleUpgrade(request, socket, head, accepted);
  }
}
