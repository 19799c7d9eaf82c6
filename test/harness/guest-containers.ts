import { copyFile, mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import type { Client } from '@connectrpc/connect';
import { execa } from 'execa';
import {
  type Agent,
  Channel,
  type CreateContainerRequestSchema,
  type ExecRequestSchema,
  type Exit,
  Mount_Kind,
  Namespaces_Mode,
  type OutputRecord,
  type OutputRequestSchema,
  type ProcessSchema,
} from '../../src/agent/gen/agent/v1/agent_pb.js';
import { freeFolder, removeFolder } from './free-folder.ts';

/** The plain form of a message, which can be spread. */
type Plain<T> = Exclude<T, { readonly $typeName: string }>;
type PlainMessage<T extends DescMessage> = Plain<MessageInitShape<T>>;

export type CreateRequest = Omit<PlainMessage<typeof CreateContainerRequestSchema>, 'process'> & {
  process?: PlainMessage<typeof ProcessSchema>;
};
export type ExecRequest = PlainMessage<typeof ExecRequestSchema>;

/** What a program has written and how it has ended. */
export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly exit: Exit;
}

const busybox = '/bin/busybox';
const slotBytes = 8 * 1024 ** 3;

/** What container engines give to a container that asks for nothing. */
export const defaultCapabilities = (
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD ' +
  'AUDIT_WRITE SETFCAP'
)
  .split(' ')
  .map((name) => `CAP_${name}`);

/** An erofs image with busybox in it, as big as a slot. `fill` may add to the tree. */
export async function busyboxErofs(path: string, mkfs: string, fill: (root: string) => Promise<void>): Promise<void> {
  const root = await freeFolder('erofs');
  try {
    for (const folder of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'var']) await mkdir(join(root, folder));
    await copyFile(busybox, join(root, 'bin/busybox'));
    const { stdout } = await execa(busybox, ['--list']);
    for (const applet of stdout.split('\n').filter((name) => name !== 'busybox')) {
      await symlink('busybox', join(root, 'bin', applet));
    }
    await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:Web:/var/www:/bin/sh\n');
    await writeFile(join(root, 'etc/group'), 'root:x:0:\nweb:x:44:\nlogs:x:50:web\nextra:x:51:root\n');
    await fill(root);
    await mkdir(dirname(path), { recursive: true });
    await execa(mkfs, ['--quiet', path, root], { timeout: 60_000 });
    await truncate(path, slotBytes);
  } finally {
    await removeFolder(root);
  }
}

const mount = (kind: Mount_Kind, destination: string, more: object = {}): object => ({ kind, destination, ...more });

/** As the daemon asks for an ordinary container; `more` replaces whole fields. */
export function request(id: string, argv: readonly string[], more: CreateRequest = {}): CreateRequest {
  const sets = defaultCapabilities;
  return {
    id,
    rootfs: { imageDisk: 'slot0' },
    mounts: [
      mount(Mount_Kind.PROC, '/proc', { options: ['nosuid', 'noexec', 'nodev'] }),
      mount(Mount_Kind.DEV, '/dev', { options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] }),
      mount(Mount_Kind.DEVPTS, '/dev/pts'),
      mount(Mount_Kind.MQUEUE, '/dev/mqueue', { options: ['nosuid', 'noexec', 'nodev'] }),
      mount(Mount_Kind.SYSFS, '/sys', { options: ['nosuid', 'noexec', 'nodev', 'ro'] }),
      mount(Mount_Kind.CGROUP, '/sys/fs/cgroup', { options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'] }),
      mount(Mount_Kind.SHM, '/dev/shm', { options: ['nosuid', 'noexec', 'nodev'] }),
      mount(Mount_Kind.HOSTS, '/etc/hosts'),
      mount(Mount_Kind.RESOLV_CONF, '/etc/resolv.conf'),
      mount(Mount_Kind.HOSTNAME, '/etc/hostname'),
    ],
    maskedPaths:
      '/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/scsi /sys/firmware'.split(
        ' ',
      ),
    readonlyPaths: '/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger'.split(' '),
    namespaces: { pid: Namespaces_Mode.CONTAINER, ipc: Namespaces_Mode.POD },
    ...more,
    process: {
      argv: [...argv],
      env: ['PATH=/usr/bin:/bin'],
      capabilities: { bounding: sets, effective: sets, permitted: sets },
      ...more.process,
    },
  };
}

/** A request stream that can be written to while the call runs. */
export class Requests<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  #wake: () => void = () => undefined;
  #ended = false;

  push(value: T): void {
    this.#queue.push(value);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) yield next;
      else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}

/** Reads a container's output to its end, acknowledging every record. */
export async function readOutput(
  client: Client<typeof Agent>,
  id: string,
): Promise<Outcome & { records: OutputRecord[] }> {
  const requests = new Requests<MessageInitShape<typeof OutputRequestSchema>>();
  requests.push({ id });
  const records: OutputRecord[] = [];
  for await (const record of client.output(requests)) {
    records.push(record);
    requests.push({ acknowledged: record.sequence });
    if (record.exit !== undefined) requests.end();
  }
  const exit = records.at(-1)?.exit;
  if (exit === undefined) throw new Error(`output of ${id} ended without an exit`);
  const text = (channel: Channel): string =>
    Buffer.concat(records.filter((it) => it.channel === channel).map((it) => it.data)).toString();
  return { stdout: text(Channel.STDOUT), stderr: text(Channel.STDERR), exit, records };
}

/** Creates, starts, reads to the end and removes. */
export async function runContainer(client: Client<typeof Agent>, create: CreateRequest): Promise<Outcome> {
  const id = create.id ?? '';
  await client.createContainer(create);
  try {
    await client.startContainer({ id });
    return await readOutput(client, id);
  } finally {
    await client.removeContainer({ id });
  }
}

/** Runs a program in a container and collects what it says; `started` is when execve had happened. */
export async function execIn(
  client: Client<typeof Agent>,
  start: NonNullable<ExecRequest['start']>,
  more: Iterable<ExecRequest> = [],
): Promise<Outcome & { readonly startedMs: number; readonly exitedMs: number }> {
  const begin = performance.now();
  let startedMs = NaN;
  const parts: Record<Channel, Buffer[]> = { [Channel.STDOUT]: [], [Channel.STDERR]: [] };
  async function* requests(): AsyncGenerator<ExecRequest> {
    yield { start };
    yield* more;
  }
  for await (const response of client.exec(requests())) {
    if (response.started) startedMs = performance.now() - begin;
    parts[response.channel].push(Buffer.from(response.data));
    if (response.exit !== undefined) {
      return {
        stdout: Buffer.concat(parts[Channel.STDOUT]).toString(),
        stderr: Buffer.concat(parts[Channel.STDERR]).toString(),
        exit: response.exit,
        startedMs,
        exitedMs: performance.now() - begin,
      };
    }
  }
  throw new Error('exec ended without an exit');
}
