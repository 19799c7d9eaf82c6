import { access, constants, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { hasCode } from '../platform/errors.ts';
import type { LoadedConfig } from './load.ts';
import type { Problem } from './problems.ts';

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP')) return false;
    throw error;
  }
}

/** Whether a file can be read; for the files whose absence at their default place is fine. */
export async function isReadable(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP')) return false;
    throw error;
  }
}

/** Absolute path of a program, looked for in PATH when it is a bare name. */
export async function findProgram(program: string, path = process.env['PATH'] ?? ''): Promise<string | undefined> {
  const candidates = program.startsWith('/')
    ? [program]
    : path
        .split(delimiter)
        .filter((folder) => folder.startsWith('/'))
        .map((folder) => join(folder, program));
  for (const candidate of candidates) if (await isExecutable(candidate)) return candidate;
  return undefined;
}

/** What each program is for and where it comes from, for the message when it is missing. */
const programs = [
  { key: 'vm.qemu', of: (c) => c.vm.qemu, hint: 'install the package qemu-system-x86' },
  { key: 'vm.jailer', of: (c) => c.vm.jailer, hint: 'build it from jailer/' },
  { key: 'cni.networker', of: (c) => c.cni.networker, hint: 'build it from networker/' },
  { key: 'images.skopeo', of: (c) => c.images.skopeo, hint: 'install the package skopeo' },
  {
    key: 'images.mkfs_erofs',
    of: (c) => c.images.mkfsErofs,
    hint: 'version 1.8 or later; scripts/build-erofs-utils builds it',
  },
  { key: 'images.unpacker', of: (c) => c.images.unpacker, hint: 'build it from unpacker/' },
] as const satisfies readonly {
  readonly key: string;
  readonly of: (config: LoadedConfig['config']) => string;
  readonly hint: string;
}[];

/**
 * The second stage: what this machine must have for the configuration to work. All problems at
 * once. A file that is missing at its default place is none: the part that would read it does without.
 */
export async function checkHost(loaded: LoadedConfig): Promise<readonly Problem[]> {
  const { config, sourceOf } = loaded;
  const problems: Problem[] = [];
  const add = (key: string, text: string): number => problems.push({ source: sourceOf(key) ?? 'default', key, text });

  for (const { key, of, hint } of programs) {
    const name = of(config);
    if ((await findProgram(name)) !== undefined) continue;
    add(key, `no program "${name}"${name.startsWith('/') ? '' : ' in PATH'} (${hint})`);
  }
  for (const file of ['vmlinux', 'initramfs', 'guest.json']) {
    if (await isReadable(join(config.vm.guest, file))) continue;
    add('vm.guest', `"${config.vm.guest}" is not a guest image, it has no ${file} (guest/image/build makes one)`);
    break;
  }
  const optional = [
    ['images.registries_conf', config.images.registriesConf],
    ['images.registries_d', config.images.registriesD],
    ['images.policy', config.images.policy],
    ['streaming.tls_cert_file', config.streaming.tls?.certFile ?? ''],
    ['streaming.tls_key_file', config.streaming.tls?.keyFile ?? ''],
  ] as const;
  for (const [key, path] of optional) {
    if (sourceOf(key) !== undefined && !(await isReadable(path))) add(key, `cannot read "${path}"`);
  }
  if (config.vm.accelerator === 'kvm' && !(await isReadable('/dev/kvm'))) {
    add('vm.accelerator', 'found "kvm", but /dev/kvm cannot be opened ("auto" falls back to emulation)');
  }
  return problems;
}
