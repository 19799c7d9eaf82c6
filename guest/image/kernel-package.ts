import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Debian's kernel, as the package file that apt has verified. */
export interface KernelPackage {
  /** Version of the package, e.g. 6.1.192-2. */
  readonly version: string;
  readonly file: string;
}

/** Always depends on the image of the newest kernel of the release. */
const metaPackage = 'linux-image-amd64';

/** The newest package in the cache; undefined when there is none. */
export async function cachedKernel(folder: string): Promise<KernelPackage | undefined> {
  const names = await readdir(folder).catch(() => []);
  const collator = new Intl.Collator('en', { numeric: true });
  const newest = names
    .filter((name) => name.endsWith('.deb'))
    .sort((a, b) => collator.compare(a, b))
    .at(-1);
  if (newest === undefined) return undefined;
  // <package>_<version>_<architecture>.deb, with an epoch's colon as %3a
  const version = decodeURIComponent(newest.split('_')[1] ?? newest);
  return { version, file: join(folder, newest) };
}

/** Fetches the current package by name into the cache. */
export async function downloadKernel(folder: string): Promise<void> {
  const { execa } = await import('execa');
  const options = { timeout: 600_000, env: { LC_ALL: 'C' } };
  const findName = async (): Promise<string | undefined> => {
    const { stdout } = await execa('apt-cache', ['depends', '--important', metaPackage], { ...options, reject: false });
    return /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
  };
  let name = await findName();
  if (name === undefined) {
    await execa('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=300', 'update'], options);
    name = await findName();
  }
  if (name === undefined) throw new Error(`apt knows no package ${metaPackage}`);
  const temporary = join(folder, `download-${String(process.pid)}`);
  await mkdir(temporary, { recursive: true });
  try {
    // Root fetches it as root: apt's own user cannot write to the cache.
    await execa('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', name], { ...options, cwd: temporary });
    for (const file of await readdir(temporary)) await rename(join(temporary, file), join(folder, file));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
