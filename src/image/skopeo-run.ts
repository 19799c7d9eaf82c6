import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../platform/errors.ts';
import { runWatched, type WatchedExit } from '../platform/watched-process.ts';
import type { Platform } from './manifest.ts';

export interface SkopeoOptions {
  readonly command: string;
  /** containers-registries.conf(5); undefined: the one of the host, if any. */
  readonly registriesConf?: string;
  /** containers-registries.d(5), where signatures are; undefined: the one of the host, if any. */
  readonly registriesD?: string;
  /** containers-policy.json(5); undefined: every image is accepted. */
  readonly policy?: string;
  /** A folder on tmpfs for credentials. */
  readonly secretsDir: string;
  /** A run that moves no byte for so long is given up. */
  readonly stallMs: number;
  readonly platform: Platform;
}

/** One call of skopeo. */
export interface SkopeoRun {
  /** What it does, for errors. */
  readonly name: string;
  /** Verb and arguments. */
  readonly argv: readonly string[];
  /** Open files that it gets as 3, 4 and so on. */
  readonly inherit?: readonly number[];
  /** Folder to run in; large temporary files go there as well. */
  readonly cwd?: string;
  /** Bytes moved so far, where its output says nothing about that. */
  readonly progress?: () => Promise<number>;
}

/** Registries bound manifests to 4 MiB; configurations are smaller still. */
const maxDocumentBytes = 8 * 1024 * 1024;

export async function runSkopeo(options: SkopeoOptions, run: SkopeoRun, signal: AbortSignal): Promise<WatchedExit> {
  const { command, policy, registriesConf, registriesD, platform, stallMs } = options;
  const { name, argv, inherit, cwd, progress } = run;
  return await runWatched(
    {
      name,
      argv: [
        command,
        ...(policy === undefined ? ['--insecure-policy'] : ['--policy', policy]),
        ...(registriesConf === undefined ? [] : ['--registries-conf', registriesConf]),
        ...(registriesD === undefined ? [] : ['--registries.d', registriesD]),
        ...['--override-os', platform.os, '--override-arch', platform.architecture],
        ...argv,
      ],
      env: { ...environment(), ...(cwd === undefined ? {} : { TMPDIR: cwd }) },
      ...(inherit === undefined ? {} : { inherit }),
      ...(cwd === undefined ? {} : { cwd }),
      stallMs,
      ...(progress === undefined ? {} : { progress }),
      maxOutputBytes: maxDocumentBytes,
    },
    signal,
  );
}

/** Proxies are the administrator's business; nothing else of the daemon's environment is skopeo's. */
function environment(): Record<string, string> {
  const kept = /^(?:PATH|HOME|(?:https?|no|all)_proxy|SSL_CERT_(?:FILE|DIR))$/i;
  const set = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(set.filter(([name]) => kept.test(name)));
}

/** Bytes in the files of a folder and the folders in it; 0 while it is not there. */
export async function bytesBelow(folder: string): Promise<number> {
  try {
    const entries = await readdir(folder, { withFileTypes: true, recursive: true });
    const sizes = entries.filter((e) => e.isFile()).map((e) => sizeOf(join(e.parentPath, e.name)));
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0;
    throw error;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0;
    throw error;
  }
}
