import { chmod, copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { tarOf } from '../harness/oci-layout.ts';

/** From scripts/build-busybox: Debian's own lack applets that critest calls. */
const busybox = join(import.meta.dirname, '../../libexec/busybox');
const nginx = '/usr/sbin/nginx';
const toolTimeoutMs = 60_000;

const passwd = [
  'root:x:0:0:root:/root:/bin/sh',
  'www-data:x:33:33:www-data:/var/www:/bin/sh',
  'default-user:x:1000:1000::/home/default-user:/bin/sh',
  'nobody:x:65534:65534:nobody:/:/bin/false',
];
const group = [
  'root:x:0:',
  'www-data:x:33:',
  'default-user:x:1000:',
  'group-defined-in-image:x:50000:default-user',
  'nobody:x:65534:',
];

const escalation = `
#include <stdio.h>
#include <unistd.h>
int main(void) {
  printf("Effective uid: %d\\n", (int)geteuid());
  return 0;
}
`;

async function put(root: string, path: string, content: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), content);
}

/** A layer made of what `fill` puts into an empty folder; the same content makes the same layer. */
export async function layerOf(fill: (root: string) => Promise<void>): Promise<Uint8Array> {
  const root = await freeFolder('layer');
  try {
    await fill(root);
    return await tarOf(root);
  } finally {
    await removeFolder(root);
  }
}

/** Busybox with all its applets, users and groups; the ground of all images. */
export async function fillBusybox(root: string): Promise<void> {
  const folders = ['bin', 'dev', 'etc', 'home/default-user', 'proc', 'root', 'sys', 'tmp', 'usr', 'var', 'www'];
  for (const folder of folders) await mkdir(join(root, folder), { recursive: true });
  await chmod(join(root, 'tmp'), 0o1777);
  // A file of its own: one spec masks it, which through a link would mask every applet.
  for (const name of ['busybox', 'ls']) {
    await copyFile(busybox, join(root, 'bin', name));
    await chmod(join(root, 'bin', name), 0o755);
  }
  const { stdout } = await execa(busybox, ['--list'], { timeout: toolTimeoutMs });
  for (const applet of stdout.split('\n')) {
    if (!['', 'busybox', 'ls'].includes(applet)) await symlink('busybox', join(root, 'bin', applet));
  }
  await put(root, 'etc/passwd', `${passwd.join('\n')}\n`);
  await put(root, 'etc/group', `${group.join('\n')}\n`);
  await put(root, 'www/index.html', '<p>It works.</p>\n');
}

/** Debian's nginx with the libraries it needs, listening on `port`. */
export async function fillNginx(root: string, port: number): Promise<void> {
  const { stdout } = await execa('ldd', [nginx], { timeout: toolTimeoutMs });
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
  for (const file of [nginx, ...libraries]) {
    await mkdir(dirname(join(root, file)), { recursive: true });
    await copyFile(file, join(root, file));
    await chmod(join(root, file), 0o755);
  }
  for (const folder of ['run', 'var/log/nginx', 'var/lib/nginx']) await mkdir(join(root, folder), { recursive: true });
  // Where specs look for its pid.
  await symlink('../run', join(root, 'var/run'));
  const server = `server { listen ${String(port)}; root /usr/share/nginx/html; }`;
  const settings = [
    'user root;',
    'worker_processes 1;',
    'pid /run/nginx.pid;',
    'error_log /dev/stderr;',
    'events {}',
    `http { access_log off; ${server} }`,
  ];
  await put(root, 'etc/nginx/nginx.conf', `${settings.join('\n')}\n`);
  await put(root, 'usr/share/nginx/html/index.html', '<title>Welcome to nginx!</title>\n');
}

/** A setuid program that says which user it has become. */
export async function fillEscalation(root: string): Promise<void> {
  await mkdir(join(root, 'bin'));
  const program = join(root, 'bin/nnp');
  await execa('gcc', ['-static', '-Os', '-s', '-x', 'c', '-o', program, '-'], {
    input: escalation,
    timeout: toolTimeoutMs,
  });
  await chmod(program, 0o4755);
}

/** The programs of this machine that go into images. */
export async function imageInputs(): Promise<readonly Uint8Array[]> {
  return await Promise.all([busybox, nginx].map((path) => readFile(path)));
}
