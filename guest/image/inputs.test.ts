import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { imageKey } from './inputs.ts';

let checkout: string;

beforeEach(async () => {
  checkout = await mkdtemp(join(tmpdir(), 'image-inputs-'));
  await write('Cargo.lock', 'version = 4');
});

afterEach(async () => {
  await rm(checkout, { recursive: true });
});

async function write(path: string, content: string): Promise<void> {
  await mkdir(dirname(join(checkout, path)), { recursive: true });
  await writeFile(join(checkout, path), content);
}

async function key(environment: NodeJS.ProcessEnv = {}): Promise<string> {
  return await imageKey(checkout, '6.1', environment);
}

test.each([
  'guest/agent/src/container/mod.rs',
  'guest/agent/build.rs',
  'guest/rehearsal/Cargo.toml',
  'guest/image/cpio.ts',
  'netlink/src/lib.rs',
  'netlink/Cargo.toml',
  'proto/agent/v1/agent.proto',
  '.cargo/config.toml',
  'Cargo.lock',
])('the key covers %s', async (path) => {
  const before = await key();
  await write(path, 'one');
  const one = await key();
  await write(path, 'two');
  expect(new Set([before, one, await key()]).size).toBe(3);
});

test('the key leaves out what is not part of the image', async () => {
  const before = await key();
  for (const path of ['networker/src/main.rs', 'guest/image/cpio.test.ts', 'README.md']) await write(path, 'one');
  expect(await key()).toBe(before);
  expect(await imageKey(checkout, '6.2', {})).not.toBe(before);
});

test("the key covers cargo's profile in the environment, in any order, and nothing else of it", async () => {
  const [lto, units] = [{ CARGO_PROFILE_RELEASE_LTO: 'off' }, { CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16' }];
  const keys = [
    await key(),
    await key(lto),
    await key({ CARGO_PROFILE_RELEASE_LTO: 'thin' }),
    await key(units),
    await key({ ...lto, ...units }),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  expect(await key({ ...units, ...lto })).toBe(await key({ ...lto, ...units }));
  expect(await key({ PATH: '/bin', CARGO_HOME: '/cargo' })).toBe(await key());
});
