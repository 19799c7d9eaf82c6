import { mkdtempSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface PluginCall {
  readonly type: string;
  readonly command: string;
  readonly stdin: Record<string, unknown>;
  readonly env: Record<string, string>;
}

/**
 * CNI plugins that are real programs: each records its calls and prints what the test has laid out.
 * Everything is below `root`, which `remove` deletes.
 */
export class FakePlugins {
  readonly root = mkdtempSync(join(tmpdir(), 'fake-cni-'));
  readonly binDir = join(this.root, 'bin');
  readonly confDir = join(this.root, 'net.d');
  readonly cacheDir = join(this.root, 'results');

  async install(...types: readonly string[]): Promise<void> {
    for (const folder of ['bin', 'net.d', 'calls', 'results', 'behaviour'])
      await mkdir(join(this.root, folder), { recursive: true });
    const script = [
      '#!/bin/sh',
      `root='${this.root}'`,
      'type=${0##*/}',
      'number=$(ls "$root/calls" | wc -l)',
      // Another one may run at the same time.
      'until call="$root/calls/$(printf %03d "$number")-$type-$CNI_COMMAND" && mkdir "$call"; do',
      '  number=$((number + 1))',
      'done 2> /dev/null',
      'cat > "$call/stdin"',
      'env | grep ^CNI_ > "$call/env"',
      'if [ -f "$root/behaviour/$type-$CNI_COMMAND" ]; then . "$root/behaviour/$type-$CNI_COMMAND"; fi',
      'if [ "$CNI_COMMAND" = ADD ]; then cat "$root/behaviour/$type.result"; fi',
      '',
    ].join('\n');
    for (const type of types) await writeFile(join(this.binDir, type), script, { mode: 0o755 });
  }

  async configure(file: string, content: unknown): Promise<void> {
    await writeFile(join(this.confDir, file), typeof content === 'string' ? content : JSON.stringify(content));
  }

  /** What ADD prints. */
  async returns(type: string, result: unknown): Promise<void> {
    await writeFile(join(this.root, 'behaviour', `${type}.result`), JSON.stringify(result));
  }

  /** Lines of shell that run in place of success. */
  async behaves(type: string, command: string, ...lines: readonly string[]): Promise<void> {
    await writeFile(join(this.root, 'behaviour', `${type}-${command}`), `${lines.join('\n')}\n`);
  }

  async fails(type: string, command: string, error = { code: 100, msg: `${type} is broken` }): Promise<void> {
    await this.behaves(type, command, `echo '${JSON.stringify(error)}'`, 'exit 1');
  }

  async works(type: string, command: string): Promise<void> {
    await rm(join(this.root, 'behaviour', `${type}-${command}`), { force: true });
  }

  async calls(): Promise<readonly PluginCall[]> {
    const names = (await readdir(join(this.root, 'calls'))).sort();
    return Promise.all(
      names.map(async (name) => {
        const [, type = '', command = ''] = /^\d+-(.*)-([A-Z]+)$/.exec(name) ?? [];
        const env = await readFile(join(this.root, 'calls', name, 'env'), 'utf8');
        return {
          type,
          command,
          stdin: JSON.parse(await readFile(join(this.root, 'calls', name, 'stdin'), 'utf8')) as Record<string, unknown>,
          env: Object.fromEntries(
            env
              .trim()
              .split('\n')
              .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
          ),
        };
      }),
    );
  }

  /** The calls as "COMMAND type", and forgets them. */
  async takeOrder(): Promise<readonly string[]> {
    const order = (await this.calls()).map(({ type, command }) => `${command} ${type}`);
    await rm(join(this.root, 'calls'), { recursive: true });
    await mkdir(join(this.root, 'calls'));
    return order;
  }

  async remove(): Promise<void> {
    await rm(this.root, { recursive: true, force: true });
  }
}
