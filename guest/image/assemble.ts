import { glob, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { characterDeviceMode, cpioArchive, fileMode, folderMode, type CpioEntry } from './cpio.ts';
import type { KernelPackage } from './kernel-package.ts';
import { loadOrder, moduleDependencies, moduleName, wantedModules } from './module-order.ts';
import { extractVmlinux } from './vmlinux.ts';

export interface ImageInputs {
  readonly checkout: string;
  readonly kernel: KernelPackage;
  readonly key: string;
}

/** Makes the image in `target`, which appears complete or not at all. */
export async function assemble({ checkout, kernel, key }: ImageInputs, target: string): Promise<void> {
  const work = await mkdtemp(`${target}.`);
  try {
    const [programs, files] = await Promise.all([buildPrograms(checkout), unpackKernel(kernel, join(work, 'package'))]);
    const image = join(work, 'image');
    await mkdir(image);
    await writeFile(join(image, 'vmlinux'), await extractVmlinux(await readFile(files.bzImage)));
    await writeFile(join(image, 'initramfs'), await initramfs(programs, files.modules));
    const agentVersion = /^version = "(.+)"$/m.exec(await readFile(join(checkout, 'Cargo.toml'), 'utf8'))?.[1];
    if (agentVersion === undefined) throw new Error('Cargo.toml names no version');
    await writeFile(
      join(image, 'guest.json'),
      `${JSON.stringify({ key, kernelRelease: files.release, agentVersion }, null, 2)}\n`,
    );
    await rename(image, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface GuestPrograms {
  readonly agent: Buffer;
  readonly rehearsal: Buffer;
}

async function buildPrograms(checkout: string): Promise<GuestPrograms> {
  const packages = ['--package', 'kelyfos-agent', '--package', 'kelyfos-rehearsal'];
  const args = ['build', '--release', '--locked', ...packages, '--message-format', 'json-render-diagnostics'];
  const { stdout } = await execa('cargo', args, { cwd: checkout, timeout: 1_800_000, maxBuffer: 1 << 28 });
  const messages = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { executable?: string | null });
  // Cargo says where it has put them.
  const read = async (name: string): Promise<Buffer> => {
    const path = messages.find((message) => message.executable?.endsWith(`/${name}`) === true)?.executable;
    if (path === undefined || path === null) throw new Error(`cargo did not build ${name}`);
    return await readFile(path);
  };
  const [agent, rehearsal] = await Promise.all([read('kelyfos-agent'), read('kelyfos-rehearsal')]);
  return { agent, rehearsal };
}

interface KernelFiles {
  readonly release: string;
  readonly bzImage: string;
  /** Path of every module by its name. */
  readonly modules: ReadonlyMap<string, string>;
}

async function unpackKernel(kernel: KernelPackage, folder: string): Promise<KernelFiles> {
  await execa('dpkg-deb', ['--extract', kernel.file, folder], { timeout: 300_000 });
  const [bzImage] = await Array.fromAsync(glob('boot/vmlinuz-*', { cwd: folder }));
  if (bzImage === undefined) throw new Error(`${kernel.file} has no kernel`);
  const paths = await Array.fromAsync(glob('{usr/,}lib/modules/*/kernel/**/*.ko', { cwd: folder }));
  return {
    release: bzImage.replace('boot/vmlinuz-', ''),
    bzImage: join(folder, bzImage),
    modules: new Map(paths.map((path) => [moduleName(path), join(folder, path)])),
  };
}

/** /init is the agent; it loads what /lib/modules/order lists. Not compressed: that would cost time at every boot. */
async function initramfs(programs: GuestPrograms, paths: ReadonlyMap<string, string>): Promise<Buffer> {
  const contents = new Map<string, Buffer>();
  const pending = [...wantedModules];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (contents.has(name)) continue;
    const path = paths.get(name);
    if (path === undefined) throw new Error(`the kernel package has no module ${name}`);
    const content = await readFile(path);
    contents.set(name, content);
    pending.push(...moduleDependencies(content));
  }
  const order = loadOrder(wantedModules, (name) => moduleDependencies(contents.get(name) ?? Buffer.alloc(0)));
  const modules = order.map((name): CpioEntry => ({
    path: `lib/modules/${name}.ko`,
    mode: fileMode | 0o644,
    content: contents.get(name) ?? Buffer.alloc(0),
  }));
  return cpioArchive([
    ...['bin', 'dev', 'proc', 'sys', 'lib', 'lib/modules'].map((path) => ({ path, mode: folderMode | 0o755 })),
    // The kernel opens it for /init, so that even an early message is seen.
    { path: 'dev/console', mode: characterDeviceMode | 0o600, device: [5, 1] },
    ...modules,
    {
      path: 'lib/modules/order',
      mode: fileMode | 0o644,
      content: Buffer.from(order.map((name) => `${name}\n`).join('')),
    },
    { path: 'bin/rehearse', mode: fileMode | 0o555, content: programs.rehearsal },
    { path: 'init', mode: fileMode | 0o555, content: programs.agent },
  ]);
}
