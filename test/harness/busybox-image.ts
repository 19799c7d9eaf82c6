import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { freeFolder, removeFolder } from './free-folder.ts';
import { type OciImage, type OciRunConfig, tarOf, writeOciLayout } from './oci-layout.ts';

export interface BusyboxImageOptions {
  /** Merged over the default: PATH, and `sh` as command. */
  readonly config?: OciRunConfig;
  /** More files, by absolute path. A file of its own gives an image a digest of its own. */
  readonly files?: Readonly<Record<string, string>>;
  /** More layers on top, as tar streams. */
  readonly layers?: readonly Uint8Array[];
}

/** From the package busybox-static. Its shell runs applets by itself, whatever /bin holds. */
const busybox = '/bin/busybox';

const passwd = [
  'root:x:0:0:root:/root:/bin/sh',
  'user:x:1000:1000::/home/user:/bin/sh',
  'nobody:x:65534:65534::/:/bin/false',
];
const group = ['root:x:0:', 'user:x:1000:', 'extra:x:50000:user', 'nobody:x:65534:'];

async function fillRoot(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const folder of ['bin', 'dev', 'etc', 'home/user', 'proc', 'root', 'run', 'sys', 'tmp', 'usr', 'var', 'www']) {
    await mkdir(join(root, folder), { recursive: true });
  }
  await chmod(join(root, 'tmp'), 0o1777);
  await copyFile(busybox, join(root, 'bin/busybox'));
  await chmod(join(root, 'bin/busybox'), 0o755);
  const { stdout } = await execa(busybox, ['--list'], { timeout: 10_000 });
  for (const applet of stdout.split('\n')) {
    if (applet !== '' && applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
  }
  const all = {
    '/etc/passwd': `${passwd.join('\n')}\n`,
    '/etc/group': `${group.join('\n')}\n`,
    '/www/index.html': '<p>It works.</p>\n',
    ...files,
  };
  for (const [path, content] of Object.entries(all)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

/** A small image with a shell and the usual tools, as an OCI layout in `folder`. The same input makes the same digests. */
export async function buildBusyboxImage(folder: string, options: BusyboxImageOptions = {}): Promise<OciImage> {
  const root = await freeFolder('busybox');
  try {
    await fillRoot(root, options.files ?? {});
    const config = { Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'], ...options.config };
    return await writeOciLayout(folder, [await tarOf(root), ...(options.layers ?? [])], config);
  } finally {
    await removeFolder(root);
  }
}
