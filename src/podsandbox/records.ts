/**
 * What the daemon knows about pods when it starts again. One record per sandbox and per container,
 * and one output checkpoint per container, which changes much more often.
 */
import { z } from 'zod';
import type { Store, Table } from '../store/store.ts';
import type { ContainerId, SandboxId } from './ids.ts';
import type { ContainerConfig, SandboxConfig, TraceStep } from './model.ts';
import type { OutputCheckpoint } from './output-pump.ts';

/**
 * creating: RunPodSandbox has not returned; recovery undoes it.
 * ready: the VM runs, the network is attached.
 * ending: stopped or died; network and VM may still have to be torn down.
 * ended: nothing is left but the record.
 */
export type SandboxPhase = 'creating' | 'ready' | 'ending' | 'ended';

export interface SandboxRecord {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly runtimeHandler: string;
  readonly createdAt: bigint;
  readonly phase: SandboxPhase;
  readonly reason: string;
  readonly vmId: string;
  readonly vmOrigin: string;
  readonly netns: string;
  readonly ips: readonly string[];
  readonly trace: readonly TraceStep[];
}

/**
 * creating: CreateContainer has not returned; recovery undoes it.
 * created: held before exec. running: executed. exited: final.
 */
export type ContainerPhase = 'creating' | 'created' | 'running' | 'exited';

export interface ContainerRecord {
  readonly id: ContainerId;
  readonly sandboxId: SandboxId;
  readonly config: ContainerConfig;
  readonly phase: ContainerPhase;
  readonly imageId: string;
  readonly imageRef: string;
  /** Serial of the disk that holds its image. */
  readonly disk: string;
  readonly createdAt: bigint;
  readonly startedAt: bigint;
  readonly finishedAt: bigint;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly supplementalGroups: readonly number[] };
  readonly stopSignal: number;
  readonly guestPid: number;
  readonly trace: readonly TraceStep[];
}

const id = z.string().regex(/^[0-9a-f]{64}$/);
const bytes = z.instanceof(Uint8Array);

// The configurations are what this daemon validated before it wrote them; the version says whether it can read them.
const sandboxSchema = z.object({
  id,
  phase: z.enum(['creating', 'ready', 'ending', 'ended']),
  config: z.looseObject({}),
  vmId: z.string(),
  createdAt: z.bigint(),
});
const containerSchema = z.object({
  id,
  sandboxId: id,
  phase: z.enum(['creating', 'created', 'running', 'exited']),
  config: z.looseObject({}),
  createdAt: z.bigint(),
});
const checkpointSchema = z.object({
  sequence: z.bigint(),
  position: z.object({ inode: z.bigint(), size: z.number() }).optional(),
  pending: z.object({ stdout: bytes, stderr: bytes }),
});

function checked<T>(schema: z.ZodType): { parse(value: unknown): T } {
  return {
    parse: (value) => {
      schema.parse(value);
      return value as T;
    },
  };
}

export interface Records {
  readonly sandboxes: Table<SandboxRecord>;
  readonly containers: Table<ContainerRecord>;
  readonly checkpoints: Table<OutputCheckpoint>;
}

export function openRecords(store: Store): Records {
  return {
    sandboxes: store.table('sandboxes', 1, checked<SandboxRecord>(sandboxSchema)),
    containers: store.table('containers', 1, checked<ContainerRecord>(containerSchema)),
    checkpoints: store.table('checkpoints', 1, checked<OutputCheckpoint>(checkpointSchema)),
  };
}
