import { AppError } from '../platform/errors.ts';

/** What a container has unless the pod says otherwise; the set the peers give. */
const defaults = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
];

/** All of Linux 5.9 and later, in the order of their numbers (capabilities(7)). */
const all = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
];

export interface CapabilitySets {
  readonly bounding: string[];
  readonly effective: string[];
  readonly permitted: string[];
  readonly inheritable: string[];
  readonly ambient: string[];
}

export interface CapabilityRequest {
  readonly add: readonly string[];
  readonly drop: readonly string[];
  readonly addAmbient: readonly string[];
}

/** The kubelet sends names without CAP_, in any case; "ALL" stands for all. */
function expand(names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const upper = name.toUpperCase();
    if (upper === 'ALL') return all;
    const whole = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
    if (!all.includes(whole)) throw new AppError('invalid', `unknown capability "${name}"`);
    return [whole];
  });
}

/**
 * Drops apply before adds when ALL is dropped, and after them otherwise, so that "drop ALL, add
 * NET_RAW" leaves one and "add ALL, drop NET_RAW" all but one. Ambient ones are added to every set.
 */
export function capabilitySets(request: CapabilityRequest, privileged: boolean): CapabilitySets {
  if (privileged) return { bounding: all, effective: all, permitted: all, inheritable: [], ambient: [] };
  const dropsAll = request.drop.some((name) => name.toUpperCase() === 'ALL');
  const ambient = expand(request.addAmbient);
  const kept = new Set(dropsAll ? [] : defaults);
  for (const name of [...expand(request.add), ...ambient]) kept.add(name);
  for (const name of expand(request.drop.filter((entry) => entry.toUpperCase() !== 'ALL'))) kept.delete(name);
  const names = all.filter((name) => kept.has(name));
  const usable = ambient.filter((name) => kept.has(name));
  return { bounding: names, effective: names, permitted: names, inheritable: usable, ambient: usable };
}
