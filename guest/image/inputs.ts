import { createHash } from 'node:crypto';
import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What the image is made of, beside the kernel package, relative to the checkout. */
const patterns = [
  '{guest/agent,guest/rehearsal,netlink}/{src/**/*.rs,build.rs,Cargo.toml}',
  'guest/image/{build,*.ts}',
  'proto/agent/**/*.proto',
  '.cargo/config.toml',
  'Cargo.{lock,toml}',
];

/** Names an image by everything that goes into it. */
export async function imageKey(
  checkout: string,
  kernelVersion: string,
  environment: NodeJS.ProcessEnv,
): Promise<string> {
  // Not by `exclude`, which is not asked about every file.
  const files = (await Array.fromAsync(glob(patterns, { cwd: checkout }))).filter((file) => !file.endsWith('.test.ts'));
  const contents = await Promise.all(
    files.sort().map(async (file) => [file, await readFile(join(checkout, file))] as const),
  );
  const hash = createHash('sha256').update(`${kernelVersion}\0${process.arch}\0`);
  for (const [file, content] of contents) hash.update(`${file}\0${String(content.length)}\0`).update(content);
  // Cargo puts them over the profiles of Cargo.toml.
  const profile = Object.keys(environment).filter((name) => name.startsWith('CARGO_PROFILE_'));
  for (const name of profile.sort()) hash.update(`${name}\0${environment[name] ?? ''}\0`);
  return hash.digest('hex').slice(0, 16);
}
