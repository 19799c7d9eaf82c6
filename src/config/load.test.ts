import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { loadConfig, printConfig } from './load.ts';
import { ConfigError } from './problems.ts';

let folder: string;
let main: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-config-'));
  main = join(folder, 'config.toml');
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function file(name: string, content: string): Promise<string> {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  return path;
}

/** Lines of the message, without the folder. */
async function problems(content: string): Promise<readonly string[]> {
  await file('config.toml', content);
  try {
    await loadConfig(main);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message
      .split('\n')
      .slice(1)
      .map((line) => line.trim().replace(`${folder}/`, ''));
  }
  return [];
}

describe('loading', () => {
  test('an empty file gives the defaults, units resolved', async () => {
    await file('config.toml', '');
    const { config, files } = await loadConfig(main);
    expect(files).toEqual([main]);
    expect(config).toMatchObject({
      root: '/var/lib/kelyfos',
      state: '/run/kelyfos',
      socket: '/run/kelyfos/kelyfos.sock',
      defaultHandler: 'kelyfos',
      images: { maxUnpackedBytes: 20 * 1024 ** 3, progressTimeoutMs: 60_000 },
      hostRuntime: undefined,
    });
    const vmClass = {
      name: 'default',
      vcpus: 1,
      memoryBytes: 2 * 1024 ** 3,
      scratchBytes: 10 * 1024 ** 3,
      poolSize: 2,
      poolMax: 2,
      template: true,
      rehearse: true,
      warmImages: [],
      translationBytes: 64 * 1024 ** 2,
      qemuArguments: [],
    };
    expect([...config.vm.classes]).toEqual([['default', vmClass]]);
    expect([...config.handlers]).toEqual([['kelyfos', vmClass]]);
  });

  test('config.d comes on top in lexical order, tables merge, lists do not, flags win', async () => {
    await file(
      'config.toml',
      'root = "/a"\n[cni]\nbin_dirs = ["/x", "/y"]\n[vm.classes.default]\npool = 5\n[vm.classes.big]\nvcpus = 4',
    );
    const second = await file(
      'config.d/20-b.toml',
      'root = "/c"\n[cni]\nbin_dirs = ["/z"]\n[handlers.large]\nclass = "big"',
    );
    await file('config.d/10-a.toml', 'root = "/b"\nsocket = "/s/a.sock"\n[vm.classes.default]\nmemory = "1GiB"');
    await file('config.d/.hidden.toml', 'nonsense');
    await file('config.d/readme.txt', 'nonsense');
    const { config, sourceOf, files } = await loadConfig(main, { socket: '/flag.sock', logLevel: 'debug' });
    expect(config).toMatchObject({ root: '/c', socket: '/flag.sock', logLevel: 'debug', cni: { binDirs: ['/z'] } });
    expect(config.vm.classes.get('default')).toMatchObject({ poolSize: 5, memoryBytes: 1024 ** 3 });
    expect([...config.handlers.keys()]).toEqual(['kelyfos', 'large']);
    expect(config.handlers.get('large')?.vcpus).toBe(4);
    expect(sourceOf('root')).toBe(second);
    expect(sourceOf('socket')).toBe('--socket');
    expect(sourceOf('state')).toBeUndefined();
    expect(files.map((path) => path.replace(folder, ''))).toEqual([
      '/config.toml',
      '/config.d/10-a.toml',
      '/config.d/20-b.toml',
    ]);
  });

  test('what config prints says the same again', async () => {
    await file(
      'config.toml',
      '[vm.classes.big]\nmemory = "4GiB"\n[handlers.big]\nclass = "big"\n[host_runtime]\nendpoint = "unix:///run/c.sock"',
    );
    const first = await loadConfig(main);
    const again = await loadConfig(await file('again.toml', printConfig(first)));
    expect(again.file).toEqual(first.file);
    expect(printConfig(first)).toContain(`# effective configuration: defaults and ${main}\n`);
  });

  test('a file that was asked for has to be there', async () => {
    await expect(loadConfig(main)).rejects.toThrow(/config\.toml: cannot be read: .*ENOENT/);
  });
});

describe('problems', () => {
  test('are told all at once, with key, what was found and what is accepted', async () => {
    expect(
      await problems(`
root = "relative"
socket = "/var/run/crio/crio.sock"
default_handler = "nope"
[log]
level = "loud"
[cni]
bin_dirs = ["/x", "y/"]
[images]
progress_timeout = "soon"
[vm]
qemu = 3
classes.big = { memory = "1500KiB", pool = 1.5 }
classes."Bad Name" = {}
[handlers.other]
class = "huge"
[metrics]
address = "localhost:1"
`),
    ).toEqual(
      [
        'config.toml: root: found "relative", accepted: an absolute path',
        'config.toml: socket: found "/var/run/crio/crio.sock", accepted: an absolute path of at most 96 bytes that does not end in run/crio/crio.sock',
        'config.toml: log.level: found "loud", accepted: one of "trace", "debug", "info", "warn", "error"',
        'config.toml: cni.bin_dirs[1]: found "y/", accepted: a list of absolute paths, at least one',
        'config.toml: images.progress_timeout: found "soon", accepted: a duration above 0 with its unit, such as "500ms", "90s" or "10m"',
        'config.toml: vm.qemu: found 3, accepted: the name of a program in PATH, or an absolute path',
        'config.toml: vm.classes.big.memory: found "1500KiB", accepted: a size in whole MiB, such as "512MiB" or "2GiB"',
        'config.toml: vm.classes.big.pool: found 1.5, accepted: a whole number from 0 to 1000',
        'config.toml: vm.classes.Bad Name: found this name, accepted: a name of 1 to 63 lower-case letters, digits and dashes',
        'config.toml: metrics.address: found "localhost:1", accepted: address:port, such as "127.0.0.1:9464" or "[::1]:9464"',
        'config.toml: default_handler: found "nope", accepted: a handler, one of "kelyfos", "other"',
        'config.toml: handlers.other.class: found "huge", accepted: a VM class, one of "default", "Bad Name", "big"',
      ].map((line) =>
        line.includes('handlers.other.class')
          ? expect.stringContaining('handlers.other.class: found "huge", accepted: a VM class')
          : line,
      ),
    );
  });

  test.each([
    ['acelerator = "kvm"', 'vm', 'vm.acelerator: unknown key, did you mean "accelerator"?'],
    ['binDirs = []', 'cni', 'cni.binDirs: unknown key, did you mean "bin_dirs"?'],
    ['pool = 1', 'vm', 'vm.pool: unknown key, did you mean vm.classes.<name>.pool?'],
    ['speed = 1', 'log', 'log.speed: unknown key, accepted here: level'],
    ['cpus = 1', 'vm.classes.x', 'vm.classes.x.cpus: unknown key, did you mean "vcpus"?'],
    ['__proto__ = 1', 'log', 'log.__proto__: unknown key, accepted here: level'],
  ])('an unknown key, %s in [%s], is one', async (line, table, message) => {
    expect(await problems(`[${table}]\n${line}`)).toEqual([`config.toml: ${message}`]);
  });

  test.each([
    ['vm = 3', 'vm: found 3, accepted: a table with the keys accelerator, qemu, jailer, guest, classes'],
    ['handlers = []', 'handlers: found [], accepted: a table'],
    ['log = "debug"', 'log: found "debug", accepted: a table with the keys level'],
    [
      'state = "/var/lib/kelyfos/state"',
      'state: found "/var/lib/kelyfos/state", accepted: a folder apart from root ("/var/lib/kelyfos")',
    ],
    ['root = "/run/kelyfos"', 'state: found "/run/kelyfos", accepted: a folder apart from root ("/run/kelyfos")'],
    ['root = "/a/../b"', 'root: found "/a/../b", accepted: an absolute path'],
    [
      'vm.classes.x = { pool_max = 1 }',
      'vm.classes.x.pool_max: found 1, accepted: at least 2, the `pool` of that class',
    ],
    ['root = 1979-05-27', 'root: found "1979-05-27", accepted: an absolute path'],
  ])('%s', async (content, message) => {
    const [line] = await problems(content);
    expect(line?.replace(/^[^:]+: /, '').slice(0, 60)).toBe(message.slice(0, 60));
  });

  test('name the file of config.d or the flag they come from', async () => {
    await file('config.toml', '');
    const path = await file('config.d/x.toml', '[log]\nlevel = 1');
    await expect(loadConfig(main)).rejects.toThrow(`${path}: log.level: found 1`);
    await expect(loadConfig(main, { logLevel: 'no' })).rejects.toThrow('--log-level: log.level: found "no"');
  });

  test('of syntax name line and column', async () => {
    expect(await problems('root = \n')).toEqual([
      expect.stringMatching(/^config\.toml: not valid TOML at line 1, column \d+: /),
    ]);
  });
});
