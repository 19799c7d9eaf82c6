import type { ContainerId, SandboxId } from '../../podsandbox/ids.ts';

/** Which streams a client has asked for. */
export interface AskedStreams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** What a client may do once that connects to the URL made for it. */
export type StreamRequest =
  | {
      readonly kind: 'exec';
      readonly containerId: ContainerId;
      readonly argv: readonly string[];
      readonly streams: AskedStreams;
    }
  | { readonly kind: 'attach'; readonly containerId: ContainerId; readonly streams: AskedStreams }
  | {
      readonly kind: 'portforward';
      readonly sandboxId: SandboxId;
      /** Only needed by clients that cannot name a port themselves: WebSocket without SPDY in it. */
      readonly ports: readonly number[];
    };

/** A connection that another runtime's streaming server is to serve. */
export interface RelayRequest {
  readonly kind: 'portforward';
  /** Where it waits for its client. */
  readonly relay: URL;
}

export type CommandRequest = Extract<StreamRequest, { streams: AskedStreams }>;
export type PortForwardRequest = Extract<StreamRequest, { kind: 'portforward' }>;
