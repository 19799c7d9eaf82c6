import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { z } from 'zod';
import { distributionSvg } from './distribution-svg.ts';

export interface Plot {
  /** As `compare` wrote it, or as it is published. */
  readonly jsonFile: string;
  /** Takes the drawings and the numbers they are made from. */
  readonly folder: string;
  readonly say: (text: string) => void;
}

const numbersFile = 'compare.json';

/** What is published of a run: enough to draw it again, and what it depends on. */
const document = z.object({
  bench: z.literal('compare'),
  at: z.iso.datetime(),
  host: z.object({
    kernel: z.string(),
    cpuModel: z.string(),
    cpus: z.number(),
    memoryMB: z.number(),
    accelerator: z.string(),
    qemu: z.string(),
    guestKernel: z.string(),
  }),
  results: z.array(
    z.object({
      name: z.string(),
      unit: z.enum(['ms', 'MB/s']),
      target: z.object({ sense: z.enum(['at most', 'at least']), ratio: z.number() }).optional(),
      own: z.array(z.number()),
      peer: z.array(z.number()),
    }),
  ),
});

type Numbers = z.infer<typeof document>;

/** Files of what is published, by their names; the same numbers always give the same files. */
export async function drawn(json: string): Promise<ReadonlyMap<string, string>> {
  const numbers = rounded(document.parse(JSON.parse(json)));
  const { at, host, results } = numbers;
  const about = `${at.slice(0, 10)}, ${String(host.cpus)} processors, ${host.accelerator}, QEMU ${host.qemu.split(' ')[0] ?? ''}, guest kernel ${host.guestKernel}`;
  // Laid out like every other file here, which is also a tenth of the lines.
  const style = await resolveConfig(import.meta.filename);
  const files = new Map([[numbersFile, await format(JSON.stringify(numbers), { ...style, parser: 'json' })]]);
  for (const { name, unit, own, peer, target } of results)
    files.set(`${fileName(name)}.svg`, distributionSvg({ name, unit, own, peer, target }, about));
  return files;
}

/** A drawing for each figure of a comparison, with the numbers beside them. */
export async function benchPlot({ jsonFile, folder, say }: Plot): Promise<void> {
  const files = await drawn(await readFile(jsonFile, 'utf8'));
  await mkdir(folder, { recursive: true });
  for (const [name, content] of files) await writeFile(join(folder, name), content);
  say(`${String(files.size)} files in ${folder}`);
}

/** More than a hundredth says nothing. */
function rounded(numbers: Numbers): Numbers {
  const hundredths = (samples: readonly number[]): number[] => samples.map((value) => Math.round(value * 100) / 100);
  return {
    ...numbers,
    results: numbers.results.map((result) => ({
      ...result,
      own: hundredths(result.own),
      peer: hundredths(result.peer),
    })),
  };
}

function fileName(figure: string): string {
  return figure
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '');
}
