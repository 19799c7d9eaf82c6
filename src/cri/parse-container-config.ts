import { isUtf8 } from 'node:buffer';
import type { ContainerConfig } from '../podsandbox/model.ts';
import { absolute, invalid, nonEmpty, objectName, plain, required, stringMap, unsupported } from './fields.ts';
import type * as cri from './gen/cri-types.ts';
import { parseCdiName, parseDevices, parseMounts } from './parse-mounts.ts';
import { parseResources } from './parse-resources.ts';
import { parseSecurity } from './parse-security.ts';
import { parseSignal } from './signals.ts';

function parseEnv(list: readonly cri.KeyValue[]): readonly { readonly key: string; readonly value: string }[] {
  return list.map(({ key, value }, index) => {
    const field = `config.envs[${String(index)}]`;
    if (nonEmpty(key, `${field}.key`).includes('=')) throw invalid(`${field}.key`, `"${key}" holds "="`);
    // Never the value itself: it may be a secret.
    if (!isUtf8(value)) throw invalid(`${field}.value`, `of "${key}" is not UTF-8`);
    return { key, value: plain(value.toString('utf8'), `${field}.value`) };
  });
}

/** Stays in the sandbox's log directory. */
function parseLogPath(path: string): string {
  if (path === '') return '';
  if (path.startsWith('/') || path.split('/').includes('..')) {
    throw invalid('config.log_path', `"${path}" does not stay in the sandbox's log directory`);
  }
  return plain(path, 'config.log_path');
}

/** The name of the image in a request. */
export function parseImage(spec: cri.ImageSpec | null, field: string): string {
  return nonEmpty(required(spec, field).image, `${field}.image`);
}

/** What CreateContainer is asked for. Throws what the client has to correct, or what this version cannot do. */
export function parseContainerConfig(message: cri.ContainerConfig | null): ContainerConfig {
  const config = required(message, 'config');
  if (config.windows !== null) throw unsupported('config.windows', 'this is a runtime for Linux');
  const metadata = required(config.metadata, 'config.metadata');
  return {
    metadata: { name: objectName(metadata.name, 'config.metadata.name'), attempt: metadata.attempt },
    image: parseImage(config.image, 'config.image'),
    userSpecifiedImage: config.image?.user_specified_image ?? '',
    imageAnnotations: stringMap(config.image?.annotations ?? {}),
    command: config.command.map((word) => plain(word, 'config.command')),
    args: config.args.map((word) => plain(word, 'config.args')),
    workingDir: config.working_dir === '' ? '' : absolute(config.working_dir, 'config.working_dir'),
    env: parseEnv(config.envs),
    mounts: parseMounts(config.mounts),
    devices: parseDevices(config.devices),
    cdiDevices: config.CDI_devices.map(({ name }, index) =>
      parseCdiName(name, `config.CDI_devices[${String(index)}].name`),
    ),
    labels: stringMap(config.labels),
    annotations: stringMap(config.annotations),
    logPath: parseLogPath(config.log_path),
    stdin: config.stdin,
    stdinOnce: config.stdin_once,
    tty: config.tty,
    resources: parseResources(config.linux?.resources ?? null, 'config.linux.resources'),
    security: parseSecurity(config.linux?.security_context ?? null),
    stopSignal: parseSignal(config.stop_signal, 'config.stop_signal'),
  };
}
