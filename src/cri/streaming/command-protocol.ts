/**
 * The remote command protocols of Kubernetes; their names are the same on SPDY and in WebSocket.
 * https://pkg.go.dev/k8s.io/apimachinery/pkg/util/remotecommand
 */
export interface CommandProtocol {
  readonly name: string;
  /** A stream with changes of the terminal's size, when there is a terminal. */
  readonly resizes: boolean;
  /** The end is told as a metav1.Status; before, only a failure was told, as text. */
  readonly statusAsJson: boolean;
  /** WebSocket only: whether the client can end its input. On SPDY each stream can be ended. */
  readonly closable: boolean;
}

const v4: CommandProtocol = { name: 'v4.channel.k8s.io', resizes: true, statusAsJson: true, closable: false };
const v3: CommandProtocol = { ...v4, name: 'v3.channel.k8s.io', statusAsJson: false };
/** Differ in how the very first servers closed the error stream. */
const v2: CommandProtocol = { ...v3, name: 'v2.channel.k8s.io', resizes: false };
const v1: CommandProtocol = { ...v2, name: 'channel.k8s.io' };

/** On SPDY, what a client that names no protocol speaks comes last. v5 is the same as v4 there and nobody offers it alone. */
export const spdyCommandProtocols: readonly CommandProtocol[] = [v4, v3, v2, v1];

/** In WebSocket; the empty name stands for a client that names none. */
export const webSocketCommandProtocols: ReadonlyMap<string, CommandProtocol> = new Map([
  ['v5.channel.k8s.io', { ...v4, name: 'v5.channel.k8s.io', closable: true }],
  ['v4.channel.k8s.io', v4],
  ['v4.base64.channel.k8s.io', v4],
  ['channel.k8s.io', { ...v1, resizes: true }],
  ['base64.channel.k8s.io', { ...v1, resizes: true }],
  ['', { ...v1, resizes: true }],
]);
