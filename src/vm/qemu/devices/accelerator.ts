import { requireRange, option } from './argument.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface CpuConfig {
  readonly accelerator: Accelerator;
  readonly vcpus: number;
  /** For translated code, under emulation only. */
  readonly translationBytes: number;
}

const mebibyte = 1024 * 1024;

/** Processor and accelerator. Under KVM the guest sees the host's processor, under TCG all that QEMU can emulate. */
export function cpuArguments({ accelerator, vcpus, translationBytes }: CpuConfig): string[] {
  requireRange('vcpus', vcpus, 1, 255);
  requireRange('translation buffer in MiB', translationBytes / mebibyte, 1, 2047);
  return [
    '-accel',
    accelerator === 'kvm' ? 'kvm' : option('tcg', { 'tb-size': translationBytes / mebibyte }),
    '-cpu',
    accelerator === 'kvm' ? 'host' : 'max',
    '-smp',
    String(vcpus),
  ];
}
