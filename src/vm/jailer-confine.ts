import { execa } from 'execa';
import { AppError } from '../platform/errors.ts';

const timeoutMs = 10_000;

/** Puts the device rules of a jail on a group of cgroup v2, before the jail's process moves there. */
export async function confineGroup(jailer: string, folder: string, kvm: boolean): Promise<void> {
  const argv = ['confine', ...(kvm ? ['--kvm'] : []), folder];
  const { failed, stderr, shortMessage } = await execa(jailer, argv, { reject: false, timeout: timeoutMs });
  if (failed) throw new AppError('internal', stderr === '' ? (shortMessage ?? 'failed') : stderr.slice(-500));
}
