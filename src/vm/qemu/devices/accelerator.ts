import { requireRange, option } from './argument.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface CpuConfig {
  readonly accelerator: Accelerator;
  readonly vcpus: number;
}

/**
 * MiB of translated code kept under TCG. The default, a quarter of the host's memory, lets each VM
 * grow far beyond what it gains. When it is full QEMU throws all of it away: two rehearsals take more
 * than 32, and the claim would then meet cold code. Only what is used of it takes memory.
 */
const translationBufferMiB = 64;

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
