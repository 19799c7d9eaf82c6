import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildBusyboxImage } from '../harness/busybox-image.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { tarOf } from '../harness/oci-layout.ts';
import type { Compared } from './compared-lives.ts';
import type { BenchPair } from './pair.ts';
import { Samples } from './samples.ts';
import { timed } from './timed.ts';

export const pullFigures = {
  big: 'PullImage, 200 MB in 5 layers',
  small: 'PullImage, 2 MB in 1 layer',
  present: 'PullImage of an image that is there',
} as const;

const layers = 5;
/** With four such layers and one of busybox. */
const filesPerLayer = 50;
const fileBytes = 1_000_000;
const timeoutMs = 600_000;

/** A layer of files of which half can be compressed, as in programs and their data. */
async function layer(number: number): Promise<Uint8Array> {
  const folder = await freeFolder('layer');
  try {
    const target = join(folder, 'data', String(number));
    await mkdir(target, { recursive: true });
    for (let file = 0; file < filesPerLayer; file++) {
      const random = randomBytes(fileBytes / 2);
      await writeFile(
        join(target, `file${String(file)}`),
        Buffer.concat([random, Buffer.alloc(fileBytes / 2, random.subarray(0, 100))]),
      );
    }
    return await tarOf(folder);
  } finally {
    await removeFolder(folder);
  }
}

/** Pulls from a registry on loopback, of both in turn: of images that are not there, then of one that is. */
export async function comparedPulls(pair: BenchPair, runs: number, progress: (run: number) => void): Promise<Compared> {
  const compared = { own: new Samples(), peer: new Samples() };
  const folder = await freeFolder('images');
  try {
    const big = await pushBig(pair, join(folder, 'big'));
    const { folder: layout } = await buildBusyboxImage(join(folder, 'small'), { files: { '/etc/small': 'small' } });
    const small = await pair.registry.push(layout, 'kelyfos/small:test');
    for (let run = 0; run <= runs; run++) {
      progress(run);
      for (const [subject, samples] of [
        [pair.own, compared.own],
        [pair.peer, compared.peer],
      ] as const) {
        const pull = async (image: string, figure: string): Promise<void> => {
          const { ms } = await timed(() => subject.cri.call('PullImage', { image: { image } }, { timeoutMs }));
          if (run > 0) samples.add(figure, ms);
        };
        await subject.rest();
        await pull(big, pullFigures.big);
        await pull(small, pullFigures.small);
        await pull(big, pullFigures.present);
        for (const image of [big, small]) await subject.cri.call('RemoveImage', { image: { image } });
      }
    }
    return compared;
  } finally {
    await removeFolder(folder);
  }
}

async function pushBig({ registry }: BenchPair, folder: string): Promise<string> {
  const big: Uint8Array[] = [];
  for (let number = 1; number < layers; number++) big.push(await layer(number));
  const { folder: layout } = await buildBusyboxImage(folder, { layers: big });
  const reference = await registry.push(layout, 'kelyfos/big:test');
  await rm(layout, { recursive: true });
  return reference;
}
