import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileAtomic } from '../platform/atomic-file.ts';
import { hasCode, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import type { Accelerator } from './qemu/devices/accelerator.ts';

/** A guest kernel under a working KVM is up in one second; a broken one spins for ever. */
export const probeTimeoutMs = 5_000;

const verdictFile = z.strictObject({
  version: z.literal(1),
  /** Another boot of the host, QEMU or guest may behave differently. */
  key: z.strictObject({ bootId: z.string(), qemu: z.string(), guest: z.string() }),
  accelerator: z.enum(['kvm', 'tcg']),
  reason: z.string(),
});

export interface ProbeInputs {
  readonly setting: 'auto' | Accelerator;
  /** Where the verdict is remembered. */
  readonly file: string;
  readonly key: { readonly bootId: string; readonly qemu: string; readonly guest: string };
  /** Whether there is a /dev/kvm at all. */
  readonly hasKvm: () => Promise<boolean>;
  /**
   * Boots the guest kernel under KVM until its agent has opened its port, then ends it. Resolves with
   * why it did not get there, or undefined when it did; rejects when it could not be tried.
   */
  readonly bootUnderKvm: (signal: AbortSignal) => Promise<string | undefined>;
  readonly log: Log;
}

/**
 * KVM counts as usable when the guest kernel has booted under it, not when the device opens: a
 * device may be there whose virtual machines never run. The verdict is remembered.
 */
export async function chooseAccelerator(inputs: ProbeInputs): Promise<Accelerator> {
  if (inputs.setting !== 'auto') return inputs.setting;
  const remembered = await readVerdict(inputs);
  if (remembered) return remembered;
  const { accelerator, reason } = await probe(inputs);
  if (accelerator === 'tcg')
    inputs.log.warn(`virtual machines run under emulation (tcg), several times slower: ${reason}`);
  else inputs.log.info('virtual machines run under kvm');
  const verdict: z.infer<typeof verdictFile> = { version: 1, key: { ...inputs.key }, accelerator, reason };
  await writeFileAtomic(inputs.file, `${JSON.stringify(verdict, undefined, 2)}\n`);
  return accelerator;
}

async function probe(inputs: ProbeInputs): Promise<{ accelerator: Accelerator; reason: string }> {
  if (!(await inputs.hasKvm())) return { accelerator: 'tcg', reason: 'there is no /dev/kvm' };
  const failure = await inputs.bootUnderKvm(AbortSignal.timeout(probeTimeoutMs));
  if (failure === undefined) return { accelerator: 'kvm', reason: 'the guest kernel booted' };
  return { accelerator: 'tcg', reason: `the guest kernel does not boot under kvm: ${failure}` };
}

async function readVerdict({ file, key, log }: ProbeInputs): Promise<Accelerator | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    const verdict = verdictFile.parse(JSON.parse(text));
    const same = verdict.key.bootId === key.bootId && verdict.key.qemu === key.qemu && verdict.key.guest === key.guest;
    return same ? verdict.accelerator : undefined;
  } catch (error) {
    log.warn(`${file} cannot be read and is made again: ${messageOf(error)}`);
    return undefined;
  }
}
