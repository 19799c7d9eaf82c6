import { basename } from 'node:path';
import { AppError } from '../../platform/errors.ts';

export type CgroupDriver = 'systemd' | 'cgroupfs';

/** The slice that systemd knows by the last part of a `cgroup_parent`. */
export function sliceOf(parent: string): string {
  const slice = basename(parent);
  if (!/^[A-Za-z0-9:_.\\]+(-[A-Za-z0-9:_.\\]+)*\.slice$/.test(slice)) {
    throw new AppError(
      'invalid',
      `cgroup_parent "${parent}" is not the name of a slice, which the cgroup driver systemd needs`,
    );
  }
  return slice;
}

/**
 * Folder of a pod's group below the root of each hierarchy, outermost part first. A slice's name holds
 * those above it: a-b.slice is in a.slice (systemd.slice(5)).
 */
export function parentParts(driver: CgroupDriver, parent: string): readonly string[] {
  if (driver === 'cgroupfs') return parent.split('/').filter((part) => part !== '' && part !== '.');
  const words = sliceOf(parent).slice(0, -'.slice'.length).split('-');
  return words.map((_, index) => `${words.slice(0, index + 1).join('-')}.slice`);
}

/** Name of a VM's own group below its pod's: not the id of a pod or container, which cadvisor would take it for. */
export function groupName(driver: CgroupDriver, vmId: string): string {
  return driver === 'systemd' ? `kelyfos-${vmId}.scope` : `kelyfos-${vmId}`;
}
