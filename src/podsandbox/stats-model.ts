/** What pods and containers use, as the domain tells it. */
import type { ContainerFigures, FileSystemFigures } from '../agent/gen/agent/v1/agent_pb.js';
import type { SandboxId } from './ids.ts';
import type { Container, Sandbox } from './model.ts';
import type { VmUsage } from './ports.ts';

/** Pressure stall information, https://docs.kernel.org/accounting/psi.html: per cent, and microseconds in all. */
export interface PressureLine {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly totalUs: bigint;
}

export interface Pressure {
  readonly some?: PressureLine | undefined;
  readonly full?: PressureLine | undefined;
}

export interface ContainerStats {
  readonly container: Container;
  /** Nanoseconds since the epoch. */
  readonly at: bigint;
  /** As the guest tells them. */
  readonly figures: ContainerFigures;
  /** CPU use since an earlier question, in thousand millionths of a core; undefined at the first. */
  readonly nanoCores: bigint | undefined;
}

export interface SandboxStats {
  readonly sandbox: Sandbox;
  /** Of its virtual machine on the host: the containers, the guest's kernel, and QEMU itself. */
  readonly usage: VmUsage;
  readonly nanoCores: bigint | undefined;
  /** False when the guest did not answer in time; what is told of its containers is then a little older, or nothing. */
  readonly answered: boolean;
  readonly containers: readonly ContainerStats[];
  /** The disk with the writable layers, as the guest tells it. */
  readonly scratch: FileSystemFigures | undefined;
}

export interface PodStats {
  /**
   * Of those of the sandboxes that are ready and can be read, within a second: a guest that hangs
   * holds nobody up. `descriptors`: also count open files and sockets.
   */
  of(sandboxes: readonly SandboxId[], descriptors?: boolean): Promise<readonly SandboxStats[]>;
}
