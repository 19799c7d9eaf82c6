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
  // Emulated string instructions (rep_good, erms, fsrm) are byte-wise and far slower than plain
  // loops; an emulated processor does not speculate either. The kernel's test of the timer counts its
  // ticks against a processor that the host may not run meanwhile: it fails on a busy host, and the boot hangs.
  const emulated = ['mitigations=off', 'clearcpuid=112,297,580', 'no_timer_check'];
  return [...common, ...(accelerator === 'tcg' ? emulated : [])].join(' ');
}
