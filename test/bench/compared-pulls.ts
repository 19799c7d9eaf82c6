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

export const pullFigure = 'PullImage, 200 MB in 5 layers';

const layers = 5;
const filesPerLayer = 40;
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

/** Pulls of an image that is not there, from a registry on loopback, of both in turn. */
export async function comparedPulls(pair: BenchPair, runs: number, progress: (run: number) => void): Promise<Compared> {
  const compared = { own: new Samples(), peer: new Samples() };
  const folder = await freeFolder('big-image');
  try {
    const big: Uint8Array[] = [];
    for (let number = 1; number < layers; number++) big.push(await layer(number));
    const { folder: layout } = await buildBusyboxImage(folder, { layers: big });
    await pair.registry.push(layout, 'kelyfos/big:test');
    await rm(layout, { recursive: true });
    const image = { image: `${pair.registry.host}/kelyfos/big:test` };
    for (let run = 0; run <= runs; run++) {
      progress(run);
      for (const [subject, samples] of [
        [pair.own, compared.own],
        [pair.peer, compared.peer],
      ] as const) {
        await subject.rest();
        const { ms } = await timed(() => subject.cri.call('PullImage', { image }, { timeoutMs }));
        if (run > 0) samples.add(pullFigure, ms);
        await subject.cri.call('RemoveImage', { image });
      }
    }
    return compared;
  } finally {
    await removeFolder(folder);
  }
}
