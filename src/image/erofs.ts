import { chmod, chown, link, mkdir, open, readFile, rename, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { AppError, hasCode } from '../platform/errors.ts';
import { runWatched, type WatchedExit } from '../platform/watched-process.ts';

export interface ErofsOptions {
  /** kelyfos-unpacker. */
  readonly unpacker: string;
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

/** A file system that is not in the store yet. */
export interface NewErofs {
  readonly file: string;
  readonly bytes: bigint;
  /** sha256:<hex> of the archives that it was made of, from the bottom up. */
  readonly diffIds: readonly string[];
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
 * Makes one file system of an image's layers, whose files come one by one from the bottom up. Nothing is
 * unpacked on the host: kelyfos-unpacker reads each layer as a stream, and feeds mkfs.erofs with it. Layers are
 * written by strangers, so both run as nobody, without network, with limits, in a folder of their own; `staging`
 * must not exist, and be on the file system of the layers.
 */
export async function buildErofs(
  options: ErofsOptions,
  layers: AsyncIterable<string>,
  staging: string,
  signal: AbortSignal,
): Promise<NewErofs> {
  await mkdir(staging, { mode: 0o700 });
  await chown(staging, UNPRIVILEGED_ID, UNPRIVILEGED_ID);
  await using unpacker = await openProgram('kelyfos-unpacker', options.unpacker);
  await using mkfs = await openProgram('mkfs.erofs', options.mkfs);
  const supply = new LayerSupply(layers, staging);
  const names = Readable.from(supply.names(), { objectMode: false });
  try {
    const exit = await runWatched(
      {
        name: 'make a file system of the layers',
        argv: confined(options.maxBytes),
        cwd: staging,
        // Its temporary files count against the same folder and go with it.
        env: { TMPDIR: '.', PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
        stdin: names,
        inherit: [mkfs.fd, unpacker.fd],
        stallMs: options.stallMs,
        // Who waits for a layer does nothing, and need not; how long that may take is for others to say.
        progress: async (pid) => (supply.isAwaited ? performance.now() : await bytesMoved(pid)),
        maxOutputBytes: MAX_OUTPUT_BYTES,
      },
      AbortSignal.any([signal, AbortSignal.timeout(WALL_LIMIT_MS)]),
    );
    const diffIds = exit.stdout.toString().split('\n').filter(Boolean);
    const problem = problemOf(exit, diffIds.length, options.maxBytes);
    if (problem !== undefined) throw problem;
    const file = join(staging, IMAGE);
    return { file, bytes: (await stat(file, { bigint: true })).size, diffIds };
  } catch (error) {
    throw supply.failure ?? error;
  } finally {
    names.destroy();
  }
}

/** Puts it in its place in the store. */
export async function publishErofs({ file }: NewErofs, maxBytes: number, target: string): Promise<void> {
  await chown(file, 0, 0);
  await chmod(file, 0o444);
  await truncate(file, maxBytes);
  await using handle = await open(file, 'r');
  await handle.sync();
  await rename(file, target);
}

/** Links the layers into the folder of the unpacker, and tells it their names. */
class LayerSupply {
  /** Why it has ended early. */
  failure: unknown;
  /** Whether the next layer is still to come. */
  isAwaited = false;
  readonly #layers: AsyncIterable<string>;
  readonly #folder: string;

  constructor(layers: AsyncIterable<string>, folder: string) {
    this.#layers = layers;
    this.#folder = folder;
  }

  async *names(): AsyncGenerator<string> {
    let count = 0;
    try {
      this.isAwaited = true;
      for await (const layer of this.#layers) {
        this.isAwaited = false;
        const name = `layer-${String(count)}`;
        await link(layer, join(this.#folder, name));
        // Nobody can reach it by this name only.
        await chmod(join(this.#folder, name), 0o444);
        count += 1;
        yield `${name}\n`;
        this.isAwaited = true;
      }
    } catch (error) {
      this.failure = error;
      throw error;
    } finally {
      this.isAwaited = false;
    }
  }
}

async function openProgram(name: string, path: string): ReturnType<typeof open> {
  return await open(path, 'r').catch((error: unknown) => {
    throw new AppError('internal', `${name} cannot be opened at ${path}`, { cause: error });
  });
}

function confined(maxBytes: number): readonly [string, ...string[]] {
  const id = String(UNPRIVILEGED_ID);
  return [
    'prlimit',
    ...[`--cpu=${String(CPU_LIMIT_S)}`, `--fsize=${String(maxBytes)}`, `--as=${String(MEMORY_LIMIT_BYTES)}`],
    ...['--core=0', '--nofile=64', '--'],
    ...['unshare', '--net', '--ipc', '--'],
    ...['setpriv', '--reuid', id, '--regid', id, '--clear-groups', '--no-new-privs'],
    ...['--bounding-set=-all', '--inh-caps=-all', '--pdeathsig', 'KILL', '--'],
    // Beyond the file size limit there must be an error, not a signal.
    ...['env', '--ignore-signal=XFSZ'],
    // By descriptor, as nobody need not be able to reach the folder the program is in.
    ...['/proc/self/fd/4', String(maxBytes)],
  ];
}

/** Exit codes of kelyfos-unpacker; its own words begin with its name. */
const MALFORMED = 65;
const TOO_BIG = 66;
const ownWords = /^kelyfos-unpacker: (.*)$/m;

function problemOf(exit: WatchedExit, done: number, maxBytes: number): AppError | undefined {
  const { code, signal, stderr } = exit;
  // mkfs.erofs goes on after a write that has failed.
  if (code === 0 && !stderr.includes('failed to write')) return undefined;
  const own = ownWords.exec(stderr)?.[1] ?? '';
  if (code === MALFORMED) return new AppError('failed-precondition', own);
  if (code === TOO_BIG) return new AppError('exhausted', own);
  const layer = `layer ${String(done + 1)}`;
  if (stderr.includes('File too large')) {
    return new AppError('exhausted', `image unpacks to more than the limit of ${String(maxBytes)} bytes`);
  }
  if (stderr.includes('No space left')) return new AppError('exhausted', `no space left to unpack ${layer}`);
  const how = signal === undefined ? own || `exit code ${String(code)}` : `ended by ${signal}`;
  const rest = stderr.replace(ownWords, '').trim();
  return new AppError('failed-precondition', `corrupt image: ${layer} is not a proper tar (${how}): ${rest}`);
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
