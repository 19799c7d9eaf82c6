import { createHash } from 'node:crypto';
import { z } from 'zod';

/** Says what a template was made of and who holds its memory. Written twice: before it is made, and when it is complete. */
export const templateRecord = z.strictObject({
  version: z.literal(1),
  key: z.string(),
  complete: z.boolean(),
  holder: z.strictObject({ pid: z.int().positive(), startTime: z.string() }),
  memoryBytes: z.int().positive(),
  createdAt: z.iso.datetime(),
});

export type TemplateRecord = z.infer<typeof templateRecord>;

/** All that a template depends on: a change in any of it must make another template. */
export interface TemplateInputs {
  readonly guestKey: string;
  readonly hypervisorVersion: string;
  readonly arguments: readonly string[];
  readonly scratchBytes: number;
}

export function templateKey(inputs: TemplateInputs): string {
  const text = JSON.stringify([
    'template 1',
    inputs.guestKey,
    inputs.hypervisorVersion,
    inputs.arguments,
    inputs.scratchBytes,
  ]);
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
