/**
 * Makes src/agent/gen (messages and service of the guest agent, for connect) and src/cri/gen (types
 * of CRI; the server loads the .proto file itself). Does nothing when the inputs are those of the
 * last run.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { glob, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

const root = join(import.meta.dirname, '..');

/** How src/cri loads the proto file; the types are only true for these. */
const loaderFlags = ['--keepCase', '--longs=String', '--enums=String', '--defaults', '--oneofs'];

interface Target {
  readonly name: string;
  readonly output: string;
  readonly inputs: readonly string[];
  generate(): Promise<void>;
}

async function run(program: string, args: readonly string[]): Promise<void> {
  await execa(join(root, 'node_modules/.bin', program), args, { cwd: root, timeout: 120_000, preferLocal: true });
}

const targets: readonly Target[] = [
  {
    name: 'guest agent',
    output: 'src/agent/gen',
    inputs: ['proto/agent/**/*.proto', 'buf.yaml', 'buf.gen.yaml', 'node_modules/@bufbuild/protoc-gen-es/package.json'],
    generate: async () => {
      await run('buf', ['generate']);
    },
  },
  {
    name: 'CRI types',
    output: 'src/cri/gen',
    inputs: ['proto/runtime/v1/api.proto', 'scripts/generate.ts', 'node_modules/@grpc/proto-loader/package.json'],
    generate: async () => {
      const output = 'src/cri/gen';
      await rm(join(root, output), { recursive: true, force: true });
      await mkdir(join(root, output), { recursive: true });
      const args = [...loaderFlags, '--grpcLib=@grpc/grpc-js', '--importFileExtension=.ts', '-I', 'proto/runtime/v1'];
      await run('proto-loader-gen-types', [...args, '-O', output, 'api.proto']);
    },
  },
];

async function keyOf(inputs: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const pattern of inputs) {
    const files = await Array.fromAsync(glob(pattern, { cwd: root }));
    for (const file of files.sort()) hash.update(`${file}\0`).update(await readFile(join(root, file)));
  }
  return hash.digest('hex');
}

for (const target of targets) {
  if (!target.inputs.some((input) => input.startsWith('proto/') && (input.includes('*') || existsSync(join(root, input)))))
    continue;
  const stamp = join(root, target.output, '.inputs');
  const key = await keyOf(target.inputs);
  if (existsSync(stamp) && (await readFile(stamp, 'utf8')) === key) continue;
  console.log(`generate: ${target.name} -> ${target.output}`);
  await target.generate();
  await writeFile(stamp, key);
}
