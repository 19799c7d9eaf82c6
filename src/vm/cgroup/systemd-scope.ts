import { execa } from 'execa';
import { AppError } from '../../platform/errors.ts';

const timeoutMs = 10_000;

export interface Scope {
  /** Such as kelyfos-<id>.scope. */
  readonly unit: string;
  readonly slice: string;
  readonly pid: number;
  readonly maxTasks: number;
}

/**
 * The call that has systemd make a transient scope and move a process, with all its threads, into it.
 * Delegated, so that systemd leaves the limits that we write there alone, and collected by systemd once
 * the process is gone. See org.freedesktop.systemd1(5), StartTransientUnit.
 */
export function startScopeArguments({ unit, slice, pid, maxTasks }: Scope): readonly string[] {
  const properties: readonly (readonly string[])[] = [
    ['PIDs', 'au', '1', String(pid)],
    ['Slice', 's', slice],
    ['Description', 's', 'virtual machine of a pod'],
    ['Delegate', 'b', 'true'],
    ['DefaultDependencies', 'b', 'false'],
    ['CollectMode', 's', 'inactive-or-failed'],
    ['CPUAccounting', 'b', 'true'],
    ['MemoryAccounting', 'b', 'true'],
    ['IOAccounting', 'b', 'true'],
    ['TasksAccounting', 'b', 'true'],
    ['TasksMax', 't', String(maxTasks)],
  ];
  return [
    '--system',
    'call',
    'org.freedesktop.systemd1',
    '/org/freedesktop/systemd1',
    'org.freedesktop.systemd1.Manager',
    'StartTransientUnit',
    'ssa(sv)a(sa(sv))',
    unit,
    'fail',
    String(properties.length),
    ...properties.flat(),
    '0',
  ];
}

/** By busctl, which is part of systemd: no bus library is needed for one call per pod. */
export async function startScope(scope: Scope): Promise<void> {
  const { failed, stderr, shortMessage } = await execa('busctl', startScopeArguments(scope), {
    reject: false,
    stdin: 'ignore',
    timeout: timeoutMs,
  });
  if (failed) {
    const why = stderr === '' ? (shortMessage ?? 'failed') : stderr.trim().slice(-500);
    throw new AppError('internal', `start ${scope.unit} in ${scope.slice}: busctl: ${why}`);
  }
}
