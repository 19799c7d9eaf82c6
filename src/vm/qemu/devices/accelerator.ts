import { requireRange, option } from './argument.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface CpuConfig {
  readonly accelerator: Accelerator;
  readonly vcpus: number;
}

/**
 * MiB of translated code kept under TCG. The default, a quarter of the host's memory, lets each VM
 * grow far beyond what it gains; below 32 the rehearsal's translations are thrown away again.
 */
const translationBufferMiB = 32;

/** Processor and accelerator. Under KVM the guest sees the host's processor, under TCG all that QEMU can emulate. */
export function cpuArguments({ accelerator, vcpus }: CpuConfig): string[] {
  requireRange('vcpus', vcpus, 1, 255);
  return [
    '-accel',
    accelerator === 'kvm' ? 'kvm' : option('tcg', { 'tb-size': translationBufferMiB }),
    '-cpu',
    accelerator === 'kvm' ? 'host' : 'max',
    '-smp',
    String(vcpus),
  ];
}
