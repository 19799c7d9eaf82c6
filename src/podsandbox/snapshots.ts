import { join } from 'node:path';
import type { Container, Sandbox } from './model.ts';
import type { ContainerEntry, SandboxEntry } from './registry.ts';

/** What is not made yet is nobody's business; recovery, or the call that makes it, undoes it. */
export function isVisible({ record }: SandboxEntry | ContainerEntry): boolean {
  return record.phase !== 'creating';
}

/** What others see of a sandbox, as it is right now. */
export function sandboxSnapshot(entry: SandboxEntry): Sandbox {
  const { id, config, runtimeHandler, createdAt, phase, reason, ips, vmId, vmOrigin, machineId, netns } = entry.record;
  const state = phase === 'ready' ? 'ready' : 'notready';
  return {
    id,
    config,
    runtimeHandler,
    createdAt,
    state,
    reason,
    ips,
    vmId,
    vmOrigin,
    machineId,
    netns,
    pid: entry.vm?.pid ?? 0,
  };
}

/** What others see of a container, as it is right now. */
export function containerSnapshot(entry: ContainerEntry): Container {
  const { record } = entry;
  const { id, sandboxId, config, phase, createdAt, startedAt, finishedAt, exitCode, reason, message } = record;
  const { imageId, imageRef, user, stopSignal } = record;
  return {
    id,
    sandboxId,
    config,
    state: phase === 'creating' ? 'unknown' : phase,
    createdAt,
    startedAt,
    finishedAt,
    exitCode,
    reason,
    message,
    imageId,
    imageRef,
    logPath: absoluteLogPath(entry) ?? '',
    user,
    stopSignal,
    pid: phase === 'running' ? record.guestPid : 0,
    resources: record.resources,
  };
}

export function absoluteLogPath({ record, sandbox }: ContainerEntry): string | undefined {
  const folder = sandbox.record.config.logDirectory;
  return record.config.logPath === '' || folder === '' ? undefined : join(folder, record.config.logPath);
}
