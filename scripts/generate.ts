/**
 * Makes what is generated: src/agent/gen (messages and service of the guest agent, by buf; not in
 * git) and src/cri/gen/cri-types.ts (in git, so that a change of the API shows in review). Does
 * nothing when the inputs are those of the last run.
 */
import { createHash } from 'node:crypto';
import { glob, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';

const root = join(import.meta.dirname, '..');

interface Target {
  readonly name: string;
  /** A file that is there when generation has worked. */
  readonly output: string;
  readonly inputs: readonly string[];
  readonly command: readonly [string, ...string[]];
}

const targets: readonly Target[] = [
  {
    name: 'guest agent',
    output: 'src/agent/gen/agent/v1/agent_pb.js',
    inputs: ['proto/agent/**/*.proto', 'buf.yaml', 'buf.gen.yaml', 'node_modules/@bufbuild/protoc-gen-es/package.json'],
    command: ['buf', 'generate'],
  },
  {
    name: 'CRI types',
    output: 'src/cri/gen/cri-types.ts',
    inputs: ['proto/runtime/v1/api.proto', 'src/cri/proto.ts', 'scripts/generate-cri-types.ts'],
    command: [process.execPath, 'scripts/generate-cri-types.ts'],
  },
];

async function keyOf(target: Target): Promise<string> {
  const hash = createHash('sha256');
  for (const pattern of [...target.inputs, target.output]) {
    const files = await Array.fromAsync(glob(pattern, { cwd: root }));
    for (const file of files.sort()) hash.update(`${file}\0`).update(await readFile(join(root, file)));
  }
  return hash.digest('hex');
}

async function readIfThere(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch(() => '');
}

for (const target of targets) {
  // The key covers the output as well: an edited or deleted one is made again.
  const stamp = join(root, 'node_modules/.cache/generate', target.output);
  if ((await readIfThere(stamp)) === (await keyOf(target))) continue;
  console.log(`generate: ${target.name} -> ${target.output}`);
  const [program, ...args] = target.command;
  await execa(program, args, { cwd: root, preferLocal: true, timeout: 120_000 });
  await mkdir(dirname(stamp), { recursive: true });
  await writeFile(stamp, await keyOf(target));
}
