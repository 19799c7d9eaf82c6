import { z } from 'zod';
import { installDir } from './install-dir.ts';
import {
  absolutePath,
  duration,
  durationAccepts,
  httpUrl,
  imageName,
  ipAddress,
  listenAddress,
  optionalSetting,
  program,
  setting,
  size,
  sizeAccepts,
  translationBuffer,
  wholeMebibytes,
} from './setting.ts';

/**
 * Longest state folder: a unix socket address has room for 107 bytes, and
 * `/vms/<16 digits>/agent.sock` comes after it.
 */
const maxStateBytes = 64;
/** The socket is made beside its place, under a name with the process id at its end. */
const maxSocketBytes = 96;

const path = (fallback: string) => setting(absolutePath, 'an absolute path', fallback);
const programSetting = (fallback: string) =>
  setting(program, 'the name of a program in PATH, or an absolute path', fallback);
const oneOf = <const V extends readonly [string, ...string[]]>(values: V, fallback: V[number]) =>
  setting(z.enum(values), `one of ${values.map((value) => `"${value}"`).join(', ')}`, fallback as never);
const integer = (min: number, max: number, fallback: number) =>
  setting(z.int().min(min).max(max), `a whole number from ${String(min)} to ${String(max)}`, fallback);

const bytesAtMost = (max: number) => absolutePath.refine((text) => Buffer.byteLength(text) <= max);

/** A VM class or handler is named in logs, file names and metrics. */
export const nameAccepts = 'a name of 1 to 63 lower-case letters, digits and dashes';
const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);

const vmClass = z.strictObject({
  vcpus: integer(1, 64, 1),
  memory: setting(wholeMebibytes, 'a size in whole MiB, such as "512MiB" or "2GiB"', '2GiB'),
  pool: integer(0, 1000, 2),
  pool_max: optionalSetting(z.int().min(0).max(1000), 'a whole number from 0 to 1000, at least that of `pool`'),
  scratch: setting(size, sizeAccepts, '10GiB'),
  template: setting(z.boolean(), 'true or false', true),
  rehearse: setting(z.boolean(), 'true or false', true),
  warm_images: setting(z.array(imageName).max(3), 'a list of at most 3 names of images', []),
  translation_buffer: setting(translationBuffer, 'a size in whole MiB, from "8MiB" to "2047MiB"', '64MiB'),
  qemu_arguments: setting(z.array(z.string().min(1)), 'a list of arguments', []),
});

const handler = z.strictObject({
  runtime: oneOf(['vm', 'host'], 'vm'),
  class: setting(z.string(), 'the name of a VM class', 'default'),
  host_handler: optionalSetting(z.string(), 'the name of a runtime handler of the host runtime, or ""'),
});

/** The configuration as it is written in the files, with every default filled in. docs/configuration.md describes each key. */
export const configSchema = z.strictObject({
  root: path('/var/lib/kelyfos'),
  state: setting(
    bytesAtMost(maxStateBytes),
    `an absolute path of at most ${String(maxStateBytes)} bytes (sockets are made below it)`,
    '/run/kelyfos',
  ),
  socket: setting(
    // The kubelet takes its statistics from cadvisor instead of CRI for a socket of that name.
    bytesAtMost(maxSocketBytes).refine((text) => !text.endsWith('run/crio/crio.sock')),
    `an absolute path of at most ${String(maxSocketBytes)} bytes that does not end in run/crio/crio.sock`,
    '/run/kelyfos/kelyfos.sock',
  ),
  default_handler: setting(z.string(), 'the name of a handler', 'kelyfos'),
  cgroup_driver: oneOf(['auto', 'systemd', 'cgroupfs'], 'auto'),
  log: z.strictObject({ level: oneOf(['trace', 'debug', 'info', 'warn', 'error'], 'info') }).prefault({}),
  cni: z
    .strictObject({
      conf_dir: path('/etc/cni/net.d'),
      bin_dirs: setting(z.array(absolutePath).min(1), 'a list of absolute paths, at least one', [
        '/opt/cni/bin',
        '/usr/lib/cni',
      ]),
      attach_ahead: setting(z.boolean(), 'true or false', true),
      networker: path(`${installDir}/libexec/kelyfos-networker`),
    })
    .prefault({}),
  cdi: z
    .strictObject({
      spec_dirs: setting(z.array(absolutePath), 'a list of absolute paths', ['/etc/cdi', '/var/run/cdi']),
    })
    .prefault({}),
  images: z
    .strictObject({
      registries_conf: path('/etc/containers/registries.conf'),
      registries_d: path('/etc/containers/registries.d'),
      policy: path('/etc/containers/policy.json'),
      pinned: setting(z.array(z.string().min(1)), 'a list of names of images, "*" standing for any text', []),
      max_unpacked: setting(size, sizeAccepts, '20GiB'),
      progress_timeout: setting(duration, durationAccepts, '1m'),
      skopeo: programSetting('skopeo'),
      mkfs_erofs: path(`${installDir}/libexec/mkfs.erofs`),
      unpacker: path(`${installDir}/libexec/kelyfos-unpacker`),
    })
    .prefault({}),
  vm: z
    .strictObject({
      accelerator: oneOf(['auto', 'kvm', 'tcg'], 'auto'),
      qemu: programSetting('qemu-system-x86_64'),
      jailer: programSetting(`${installDir}/libexec/kelyfos-jailer`),
      guest: path(`${installDir}/guest/image/current`),
      concurrent_starts: integer(0, 1000, 0),
      memory_reserve: setting(size, sizeAccepts, '1GiB'),
      classes: z.record(name, vmClass),
    })
    .prefault({ classes: { default: {} } }),
  handlers: z.record(name, handler),
  host_runtime: z
    .strictObject({
      endpoint: optionalSetting(z.string().regex(/^unix:\/\/\/./), 'the socket of a CRI runtime, as "unix:///path"'),
      handler: setting(z.string(), 'the name of a runtime handler of that runtime, or "" for its default', ''),
    })
    .prefault({}),
  streaming: z
    .strictObject({
      address: setting(ipAddress, 'an IP address', '127.0.0.1'),
      port: integer(0, 65535, 0),
      tls_cert_file: optionalSetting(absolutePath, 'an absolute path'),
      tls_key_file: optionalSetting(absolutePath, 'an absolute path'),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      address: setting(listenAddress, 'address:port, such as "127.0.0.1:9464" or "[::1]:9464"', '127.0.0.1:9464'),
    })
    .prefault({}),
  tracing: z
    .strictObject({
      endpoint: optionalSetting(httpUrl, 'an http or https URL without user, such as "http://127.0.0.1:4318"'),
    })
    .prefault({}),
});

export type ConfigFile = z.output<typeof configSchema>;

/** Always there, below what the files say: a class and a handler to start with. */
export const builtIn = { vm: { classes: { default: {} } }, handlers: { kelyfos: {} } };
