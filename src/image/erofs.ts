import { chmod, chown, mkdir, open, readFile, rename, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { AppError, hasCode } from '../platform/errors.ts';
import { runWatched } from '../platform/watched-process.ts';
import { LayerNormaliser } from './layer-normaliser.ts';
import { openLayer } from './layer-content.ts';

export interface ErofsOptions {
  /** mkfs.erofs, 1.8 or later. */
  readonly mkfs: string;
  /**
   * What an image may unpack to. Every image file has this size on the outside, the rest being a
   * hole: a guest's disk slot cannot change its size when an image is put into it.
   */
  readonly maxBytes: number;
  /** A converter that reads and writes nothing for so long spins on a malformed tar. */
  readonly stallMs: number;
}

/** Nobody: owns nothing on the host but the file being written. */
const UNPRIVILEGED_ID = 65_534;
const CPU_LIMIT_S = 1_800;
const WALL_LIMIT_MS = 3_600_000;
/** For the tables of an image with millions of files. */
const MEMORY_LIMIT_BYTES = 4 * 1024 ** 3;
const MAX_OUTPUT_BYTES = 64 * 1024;
const IMAGE = 'image.erofs';

/**
 * Makes one file system of an image's layers, from the bottom up, by streaming each into mkfs.erofs:
 * nothing is unpacked on the host. Layers are written by strangers, so what makes a file system of
 * them runs as nobody, without network, with limits, in a folder of its own; `staging` must not
 * exist. The result is `target`; its size before padding is returned.
 */
export async function buildErofs(
  options: ErofsOptions,
  layers: readonly Layer[],
  staging: string,
  target: string,
  signal: AbortSignal,
): Promise<bigint> {
  await mkdir(staging, { mode: 0o700 });
  await chown(staging, UNPRIVILEGED_ID, UNPRIVILEGED_ID);
  const mkfs = await open(options.mkfs, 'r').catch((error: unknown) => {
    throw new AppError('internal', `mkfs.erofs cannot be opened at ${options.mkfs}`, { cause: error });
  });
  try {
    const run = (archive: AsyncIterable<Buffer>, layer: string, first: boolean): Promise<void> =>
      convert(options, mkfs.fd, staging, archive, layer, first, signal);
    // A root folder for every image, as layers need not have one.
    await run(Readable.from([LayerNormaliser.base()]), 'the root folder', true);
    const normaliser = new LayerNormaliser(options.maxBytes, async (index) => {
      const layer = layers[index];
      if (layer === undefined) throw new RangeError(`no layer ${String(index)}`);
      return await openLayer(layer.path);
    });
    for (const [index, layer] of layers.entries()) {
      const name = `layer ${String(index + 1)} of ${String(layers.length)}`;
      await using content = await openLayer(layer.path);
      const archive = normaliser.layer(content.bytes, () => {
        const digest = content.digest();
        if (digest === layer.diffId) return;
        throw new AppError(
          'failed-precondition',
          `corrupt image: ${name} is not what the configuration says: ${digest}`,
        );
      });
      await run(archive, name, false);
    }
  } finally {
    await mkfs.close();
  }
  const file = join(staging, IMAGE);
  const { size } = await stat(file, { bigint: true });
  await chown(file, 0, 0);
  await chmod(file, 0o444);
  await truncate(file, options.maxBytes);
  const handle = await open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(file, target);
  return size;
}

/** A compressed layer and the digest that its content must have. */
export interface Layer {
  readonly path: string;
  readonly diffId: string;
}

async function convert(
  options: ErofsOptions,
  mkfs: number,
  cwd: string,
  archive: AsyncIterable<Buffer>,
  layer: string,
  first: boolean,
  signal: AbortSignal,
): Promise<void> {
  const id = String(UNPRIVILEGED_ID);
  const stdin = Readable.from(archive, { objectMode: false });
  const exit = await runWatched(
    {
      name: `make a file system of ${layer}`,
      argv: [
        'prlimit',
        ...[
          `--cpu=${String(CPU_LIMIT_S)}`,
          `--fsize=${String(options.maxBytes)}`,
          `--as=${String(MEMORY_LIMIT_BYTES)}`,
        ],
        ...['--core=0', '--nofile=64', '--'],
        ...['unshare', '--net', '--ipc', '--'],
        ...['setpriv', '--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs'],
        ...['--bounding-set=-all', '--inh-caps=-all', '--pdeathsig', 'KILL', '--'],
        // By default it keeps what it reads at an offset of a tebibyte in the image; with the file size
        // limit it must get an error for that, not a signal, and then takes a temporary file.
        ...['env', '--ignore-signal=XFSZ'],
        // By descriptor, as nobody need not be able to reach the folder the program is in.
        '/proc/self/fd/3',
        ...['--quiet', '--tar=f', '--aufs', '--ovlfs-strip=1'],
        ...(first ? [] : ['--incremental=data']),
        IMAGE,
      ],
      cwd,
      // Its temporary files count against the same folder and go with it.
      env: { TMPDIR: '.', PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
      stdin,
      inherit: [mkfs],
      stallMs: options.stallMs,
      progress: bytesMoved,
      maxOutputBytes: MAX_OUTPUT_BYTES,
    },
    AbortSignal.any([signal, AbortSignal.timeout(WALL_LIMIT_MS)]),
  );
  stdin.destroy();
  if (exit.code === 0) return;
  throw conversionError(layer, options.maxBytes, exit.code, exit.signal, exit.stderr);
}

function conversionError(
  layer: string,
  maxBytes: number,
  code: number | undefined,
  signal: string | undefined,
  stderr: string,
): AppError {
  if (stderr.includes('File too large')) {
    return new AppError('exhausted', `image unpacks to more than the limit of ${String(maxBytes)} bytes`);
  }
  if (stderr.includes('No space left')) return new AppError('exhausted', `no space left to unpack ${layer}`);
  const how = signal === undefined ? `exit code ${String(code)}` : `ended by ${signal}`;
  return new AppError('failed-precondition', `corrupt image: ${layer} is not a proper tar (${how}): ${stderr}`);
}

/** What the process has read and written so far; a spinning one does neither. */
async function bytesMoved(pid: number): Promise<number> {
  try {
    const io = await readFile(`/proc/${String(pid)}/io`, 'utf8');
    const counters = [...io.matchAll(/^(?:rchar|wchar): (\d+)$/gm)];
    return counters.reduce((sum, match) => sum + Number(match[1]), 0);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return 0;
    throw error;
  }
}
