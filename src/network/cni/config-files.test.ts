import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdir, mkdtemp, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../platform/log.ts';
import { ConfigFiles } from './config-files.ts';
import type { ConfigState } from './config-files.ts';

const network = (name: string): string => JSON.stringify({ cniVersion: '1.0.0', name, type: 'bridge' });

describe('the directory of CNI configurations', () => {
  let root: string;
  let directory: string;
  let files: ConfigFiles;
  let changes: ((state: ConfigState) => boolean)[];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'cni-conf-'));
    directory = join(root, 'net.d');
    changes = [];
    files = make(3_600_000);
  });

  afterEach(async () => {
    files.close();
    await rm(root, { recursive: true });
  });

  function make(pollMs: number): ConfigFiles {
    const onChange = (state: ConfigState): void => {
      changes = changes.filter((waiting) => !waiting(state));
    };
    return new ConfigFiles({ directory, log: silentLog(), debounceMs: 5, pollMs, onChange });
  }

  /** Resolves once a load has had this outcome: the name of a network, or undefined for none. */
  function becomes(name: string | undefined): Promise<void> {
    return new Promise((resolve) => {
      changes.push((state) => {
        const matches = (state.found ? state.configuration.name : undefined) === name;
        if (matches) resolve();
        return matches;
      });
    });
  }

  test('says which directory and why while there is none', async () => {
    const problem = async (): Promise<unknown> => await files.refresh();
    expect(await problem()).toMatchObject({
      problem: `no valid CNI configuration in ${directory}: the directory does not exist`,
    });
    await mkdir(directory);
    await writeFile(join(directory, 'readme.txt'), 'x');
    expect(await problem()).toMatchObject({
      problem: `no valid CNI configuration in ${directory}: it holds no .conf, .conflist, .json file`,
    });
    await writeFile(join(directory, '1.conf'), '{');
    await writeFile(join(directory, '2.conflist'), '');
    expect(await problem()).toMatchObject({
      problem: `no valid CNI configuration in ${directory}: ${directory}/1.conf: not valid JSON; ${directory}/2.conflist: the file is empty`,
    });
  });

  test('takes the first valid file in lexical order and names those it skips', async () => {
    await mkdir(directory);
    await writeFile(join(directory, '10-broken.conf'), '{"name": "x"}');
    await writeFile(join(directory, '30-c.conf'), network('c'));
    await writeFile(join(directory, '20-b.json'), network('b'));
    expect(await files.refresh()).toMatchObject({
      found: true,
      file: join(directory, '20-b.json'),
      configuration: { name: 'b' },
      skipped: [{ file: join(directory, '10-broken.conf') }],
    });
  });

  test('sees on refresh what has changed', async () => {
    await mkdir(directory);
    await writeFile(join(directory, 'b.conf'), network('b'));
    const first = await files.refresh();
    expect(await files.refresh()).toBe(first);
    await writeFile(join(directory, 'a.conf'), network('a'));
    expect(await files.refresh()).toMatchObject({ configuration: { name: 'a' } });
    await unlink(join(directory, 'a.conf'));
    await unlink(join(directory, 'b.conf'));
    expect(await files.refresh()).toMatchObject({ found: false });
  });

  test('follows changes by itself', async () => {
    await mkdir(directory);
    await files.watch();
    const one = becomes('one');
    await writeFile(join(directory, 'a.conf'), network('one'));
    await one;
    const two = becomes('two');
    await writeFile(join(directory, 'new'), network('two'));
    await rename(join(directory, 'new'), join(directory, 'a.conf'));
    await two;
    const none = becomes(undefined);
    await unlink(join(directory, 'a.conf'));
    await none;
    expect(files.current().found).toBe(false);
  });

  test('finds a directory that is made later, or replaced', async () => {
    files.close();
    files = make(10);
    await files.watch();
    const one = becomes('one');
    await mkdir(directory);
    await writeFile(join(directory, 'a.conf'), network('one'));
    await one;
    const two = becomes('two');
    await rename(directory, join(root, 'old'));
    await mkdir(directory);
    await writeFile(join(directory, 'a.conf'), network('two'));
    await two;
  });
});
