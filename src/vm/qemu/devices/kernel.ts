import type { Accelerator } from './accelerator.ts';

export interface KernelConfig {
  readonly accelerator: Accelerator;
  /** Paths in the jail. */
  readonly kernel: string;
  readonly initrd: string;
}

/** Direct boot of an uncompressed kernel through its PVH entry point. */
export function kernelArguments({ accelerator, kernel, initrd }: KernelConfig): string[] {
  return ['-kernel', kernel, '-initrd', initrd, '-append', commandLine(accelerator)];
}

export function commandLine(accelerator: Accelerator): string {
  const common = ['console=ttyS0', 'quiet', 'panic=-1', 'random.trust_cpu=on', 'rcupdate.rcu_expedited=1', 'psi=1'];
  // A guest without work should not wake up: the detector of lockups does every four seconds,
  // compaction ahead of need twice a second (memory is still compacted when a larger block is asked for).
  const restful = ['nowatchdog', 'sysctl.vm.compaction_proactiveness=0'];
  // Debian's list without what has no policy in a guest (AppArmor, TOMOYO) and yet is asked at each call.
  const modules = ['lsm=landlock,lockdown,yama,bpf', 'audit=0'];
  // One page that is written to would otherwise cost the pod 2 MiB.
  const memory = ['transparent_hugepage=madvise'];
  // Emulated string instructions (rep_good, erms, fsrm) are byte-wise and far slower than plain
  // loops; an emulated processor does not speculate either. The kernel's test of the timer counts its
  // ticks against a processor that the host may not run meanwhile: it fails on a busy host, and the boot hangs.
  // An emulated time stamp counter is the host's clock: no other clock, looked at twice a second, knows better.
  const emulated = ['mitigations=off', 'clearcpuid=112,297,580', 'no_timer_check', 'tsc=nowatchdog'];
  // Memory that is cleared and copies that are checked once more are a second line of defence within one
  // pod, and a large part of what the emulator has to do.
  const unchecked = ['init_on_alloc=0', 'hardened_usercopy=off'];
  return [
    ...common,
    ...restful,
    ...modules,
    ...memory,
    ...(accelerator === 'tcg' ? [...emulated, ...unchecked] : []),
  ].join(' ');
}
