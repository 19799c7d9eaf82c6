/**
 * What the daemon knows about pods when it starts again. One record per sandbox and per container,
 * one output checkpoint per container, which changes much more often, and what is known of their making.
 */
import { z } from 'zod';
import type { Store, Table } from '../store/store.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { ContainerConfig, LinuxResources, SandboxConfig, SandboxResources } from './model.ts';
import type { OutputCheckpoint } from './output-pump.ts';
import type { RequestTrace } from './trace-model.ts';

/**
 * creating: RunPodSandbox has not returned; recovery undoes it.
 * ready: the VM runs, the network is attached.
 * ending: stopped or died; network and VM may still have to be torn down.
 * ended: nothing is left but the record.
 */
export type SandboxPhase = 'creating' | 'ready' | 'ending' | 'ended';

export interface SandboxRecord extends SandboxResources {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly runtimeHandler: string;
  readonly createdAt: bigint;
  readonly phase: SandboxPhase;
  readonly reason: string;
  readonly vmId: string;
  readonly vmOrigin: string;
  readonly machineId: string;
  readonly netns: string;
  readonly ips: readonly string[];
}

/**
 * creating: CreateContainer has not returned; recovery undoes it.
 * created: held before exec. running: executed. exited: final.
 */
export type ContainerPhase = 'creating' | 'created' | 'running' | 'exited';

export interface AttachedDisk {
  /** What is on it, see container-disks.ts. */
  readonly key: string;
  readonly serial: string;
}

export interface ContainerRecord {
  readonly id: ContainerId;
  readonly sandboxId: SandboxId;
  readonly config: ContainerConfig;
  /** Those of the configuration, until they are updated. */
  readonly resources: LinuxResources | undefined;
  readonly phase: ContainerPhase;
  readonly imageId: string;
  readonly imageRef: string;
  /** Disks of the guest that it uses: images and block devices. */
  readonly disks: readonly AttachedDisk[];
  readonly createdAt: bigint;
  readonly startedAt: bigint;
  readonly finishedAt: bigint;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly supplementalGroups: readonly number[] };
  readonly stopSignal: number;
  readonly guestPid: number;
}

const id = z.string().regex(/^[0-9a-f]{64}$/);
const bytes = z.custom<Uint8Array>((value) => ArrayBuffer.isView(value));

// The configurations are what this daemon validated before it wrote them; the version says whether it can read them.
const sandboxShape = z.looseObject({
  id,
  phase: z.enum(['creating', 'ready', 'ending', 'ended']),
  config: z.looseObject({}),
  vmId: z.string(),
  createdAt: z.bigint(),
});
const containerShape = z.looseObject({
  id,
  sandboxId: id,
  phase: z.enum(['creating', 'created', 'running', 'exited']),
  config: z.looseObject({}),
  disks: z.array(z.object({ key: z.string(), serial: z.string() })).default([]),
  createdAt: z.bigint(),
});
const checkpointSchema = z
  .object({
    sequence: z.bigint(),
    // Undefined is not written at all.
    position: z.object({ inode: z.bigint(), size: z.number() }).optional(),
    pending: z.object({ stdout: bytes, stderr: bytes }),
  })
  .transform((checkpoint): OutputCheckpoint => ({ ...checkpoint, position: checkpoint.position }));

const tracesSchema = z.array(
  z.object({
    request: z.enum(['RunPodSandbox', 'CreateContainer', 'StartContainer']),
    startedAt: z.bigint(),
    ms: z.number(),
    steps: z.array(z.object({ name: z.string(), startMs: z.number(), ms: z.number(), depth: z.number() })),
  }),
);

export interface Records {
  readonly sandboxes: Table<SandboxRecord>;
  readonly containers: Table<ContainerRecord>;
  readonly checkpoints: Table<OutputCheckpoint>;
  /** By the id of the sandbox or container. */
  readonly traces: Table<readonly RequestTrace[]>;
}

export function openRecords(store: Store): Records {
  return {
    sandboxes: store.table('sandboxes', 1, { parse: (value) => sandboxShape.parse(value) as unknown as SandboxRecord }),
    containers: store.table('containers', 1, {
      parse: (value) => containerShape.parse(value) as unknown as ContainerRecord,
    }),
    checkpoints: store.table('checkpoints', 1, checkpointSchema),
    traces: store.table('traces', 1, tracesSchema),
  };
}
