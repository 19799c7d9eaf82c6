/**
 * Makes the guest image unless it is there, points guest/image/current at it, and prints its folder.
 * `--update` asks apt for a newer kernel first. What is needed to do nothing is kept small: set-up
 * and tests run this every time.
 */
import { access, lstat, mkdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { imageKey } from './inputs.ts';
import { cachedKernel, downloadKernel } from './kernel-package.ts';

const checkout = join(import.meta.dirname, '../..');
const cache = process.env['KELYFOS_CACHE'] ?? '/var/cache/kelyfos';
const kernels = join(cache, 'kernel');

function say(message: string): void {
  process.stderr.write(`guest image: ${message}\n`);
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** Replaces the link in one step. */
async function point(link: string, target: string): Promise<void> {
  const present = await lstat(link).catch(() => undefined);
  if (present?.isSymbolicLink() === true && (await readlink(link)) === target) return;
  const temporary = `${link}.${String(process.pid)}`;
  await symlink(target, temporary);
  await rename(temporary, link);
}

await mkdir(kernels, { recursive: true });
const update = process.argv.includes('--update');
if (update || (await cachedKernel(kernels)) === undefined) {
  say('fetching the kernel package');
  await downloadKernel(kernels);
}
const kernel = await cachedKernel(kernels);
if (kernel === undefined) throw new Error(`no kernel package in ${kernels}`);
const key = await imageKey(checkout, kernel.version, process.env);
const target = join(cache, `guest-${key}`);
if (!(await exists(join(target, 'guest.json')))) {
  say(`building ${key} (kernel ${kernel.version}; the agent takes minutes when it is not built yet)`);
  await rm(target, { recursive: true, force: true });
  const { assemble } = await import('./assemble.ts');
  await assemble({ checkout, kernel, key }, target);
}
await point(join(import.meta.dirname, 'current'), target);
process.stdout.write(`${target}\n`);
