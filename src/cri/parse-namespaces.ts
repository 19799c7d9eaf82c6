import type { NamespaceMode as Mode, NamespaceOptions } from '../podsandbox/model.ts';
import type { Outgoing } from './call.ts';
import { enumValue, invalid, unsupported } from './fields.ts';
import type { NamespaceMode, NamespaceOption } from './gen/cri-types.ts';
import { parseUserNamespace, shapeUserNamespace } from './parse-user-namespace.ts';

const modes: Readonly<Record<NamespaceMode, Mode>> = {
  POD: 'pod',
  CONTAINER: 'container',
  NODE: 'node',
  TARGET: 'target',
};

const shared: NamespaceOptions = { network: 'pod', pid: 'pod', ipc: 'pod', targetId: '' };

type Kind = 'network' | 'pid' | 'ipc';

/** Which modes make sense where, besides NODE. */
const allowed: Readonly<Record<Kind, readonly Mode[]>> = {
  network: ['pod'],
  ipc: ['pod'],
  pid: ['pod', 'container', 'target'],
};

function mode(option: NamespaceOption, kind: Kind, field: string): Mode {
  const name = `${field}.${kind}`;
  const value = enumValue(option[kind], modes, name);
  if (value === 'node') {
    throw unsupported(
      name,
      `NODE asks for the host's ${kind} namespace, which a virtual machine does not have; whole pods that do go to ` +
        'another CRI runtime of the node: set endpoint in [host_runtime] to its socket, such as ' +
        '"unix:///run/containerd/containerd.sock"',
    );
  }
  if (!allowed[kind].includes(value)) throw invalid(name, `cannot be ${option[kind]}`);
  return value;
}

/** Namespace options of a sandbox or container; absent means all of the pod. */
export function parseNamespaces(
  option: NamespaceOption | null,
  of: 'sandbox' | 'container',
  field: string,
): NamespaceOptions {
  if (option === null) return shared;
  const pid = mode(option, 'pid', field);
  if (pid === 'target' && of === 'sandbox') throw invalid(`${field}.pid`, 'cannot be TARGET in a sandbox');
  if (pid === 'target' && option.target_id === '') throw invalid(`${field}.target_id`, 'is empty, but pid is TARGET');
  const users = parseUserNamespace(option.userns_options, `${field}.userns_options`);
  return {
    network: mode(option, 'network', field),
    pid,
    ipc: mode(option, 'ipc', field),
    targetId: pid === 'target' ? option.target_id : '',
    ...(users === undefined ? {} : { users }),
  };
}

const names: Readonly<Record<Mode, NamespaceMode>> = {
  pod: 'POD',
  container: 'CONTAINER',
  node: 'NODE',
  target: 'TARGET',
};

/** The way back, for PodSandboxStatus. */
export function shapeNamespaces(options: NamespaceOptions): Outgoing<NamespaceOption> {
  return {
    network: names[options.network],
    pid: names[options.pid],
    ipc: names[options.ipc],
    target_id: options.targetId,
    userns_options: shapeUserNamespace(options.users),
  };
}
