import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readlink, rm, rmdir, truncate, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

export const jailer = fileURLToPath(new URL('../../libexec/kelyfos-jailer', import.meta.url));

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode?: number | undefined;
}

/** What the jailer confines QEMU to, without a daemon: folders, network namespace, cgroups, template memory. */
export class JailFixture implements AsyncDisposable {
  readonly state: string;
  readonly netns: string;
  readonly cgroups: readonly string[];
  readonly uid = 1_900_000_001;
  readonly #processes: ChildProcess[] = [];

  private constructor(state: string, netns: string, cgroups: readonly string[]) {
    this.state = state;
    this.netns = netns;
    this.cgroups = cgroups;
  }

  static async create(): Promise<JailFixture> {
    const name = `kelyfos-jail-${randomBytes(4).toString('hex')}`;
    const state = await mkdtemp(join(tmpdir(), 'kelyfos-jail-'));
    const cgroups = (await cgroupMounts()).map((mount) => join(mount, name));
    const fixture = new JailFixture(state, `/run/netns/${name}`, cgroups);
    for (const folder of ['share', 'disks', 'guest', 'other-pod']) await mkdir(join(state, folder));
    await writeFile(join(state, 'disks/scratch.img'), '');
    await truncate(join(state, 'disks/scratch.img'), 1024 * 1024);
    await writeFile(join(state, 'disks/image'), 'shared by many pods');
    await writeFile(join(state, 'state-file'), 'state of the template');
    await execa('ip', ['netns', 'add', name]);
    await execa('ip', ['-n', name, 'tuntap', 'add', 'tap0', 'mode', 'tap', 'vnet_hdr']);
    for (const folder of cgroups) await mkdir(folder);
    return fixture;
  }

  path(name: string): string {
    return join(this.state, name);
  }

  /** Everything a pod's jail has, except descriptors. */
  options(): string[] {
    return [
      ...['--uid', String(this.uid), '--gid', String(this.uid), '--netns', this.netns],
      ...this.cgroups.flatMap((folder) => ['--cgroup', folder]),
      ...['--share', this.path('share'), '--disks', this.path('disks'), '--scratch', this.path('disks/scratch.img')],
      ...['--guest', this.path('guest')],
    ];
  }

  /** Runs a shell of busybox, which is static, in the jail. */
  async sh(script: string, options: readonly string[] = []): Promise<Outcome> {
    return this.run([...options, '--', 'busybox', 'sh', '-c', script]);
  }

  /** The same, going on; in the jail when this resolves. */
  async startShell(
    script: string,
    options: readonly string[] = [],
  ): Promise<{ readonly pid: number; readonly ended: Promise<Outcome> }> {
    const running = this.#execute([...options, '--', 'busybox', 'sh', '-c', script]);
    const pid = running.pid!;
    for (let attempt = 0; attempt < 400; attempt++) {
      if ((await readlink(`/proc/${String(pid)}/exe`)).endsWith('/busybox')) return { pid, ended: running };
      await delay(5);
    }
    throw new Error('no shell in the jail');
  }

  async run(args: readonly string[]): Promise<Outcome> {
    return this.#execute(args);
  }

  /** Mounts a folder of the host in the jail of `pid`. */
  async bind(pid: number, source: string, target: string, ...options: readonly string[]): Promise<Outcome> {
    return execa(jailer, ['bind', '--jail', String(pid), ...options, this.path(source), target], { reject: false });
  }

  /** Starts QEMU without a guest in the jail and waits for its monitor. */
  async startQemu(options: readonly string[], extra: readonly string[], shared = false): Promise<number> {
    const memory = `memory-backend-file,id=ram,size=16M,mem-path=/proc/self/fd/11,share=${shared ? 'on' : 'off'},prealloc=on`;
    const qemu = [
      ...['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none', '-S'],
      ...['-machine', 'q35,accel=tcg,memory-backend=ram', '-m', '16M', '-object', memory],
      ...['-chardev', 'socket,id=monitor,fd=13,server=on,wait=off', '-mon', 'chardev=monitor,mode=control'],
      ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
      ...extra,
    ];
    const monitor = this.path(`monitor-${randomBytes(4).toString('hex')}.sock`);
    const child = this.#spawn(['run', ...this.options(), ...options, '--listen', monitor, '--', ...qemu]);
    const stderr = collect(child);
    for (let attempt = 0; attempt < 400; attempt++) {
      if (child.exitCode !== null) throw new Error(`qemu ended with ${String(child.exitCode)}: ${stderr()}`);
      if (await answers(monitor)) return child.pid!;
      await delay(25);
    }
    throw new Error(`qemu does not answer: ${stderr()}`);
  }

  async hold(bytes: number): Promise<{ pid: number; path: string }> {
    const child = this.#spawn(['hold', '--name', 'kelyfos-test', '--size', String(bytes)]);
    const stderr = collect(child);
    for await (const line of createInterface({ input: child.stdout! })) {
      if (line === 'ready') return { pid: child.pid!, path: `/proc/${String(child.pid)}/fd/3` };
    }
    throw new Error(`the holder is not ready: ${stderr()}`);
  }

  async kill(pid: number): Promise<void> {
    const child = this.#processes.find((candidate) => candidate.pid === pid);
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#processes) if (child.pid !== undefined) await this.kill(child.pid);
    await rm(this.state, { recursive: true });
    await execa('ip', ['netns', 'delete', this.netns.split('/').at(-1)!]);
    for (const folder of this.cgroups) await removeGroup(folder);
  }

  #execute(args: readonly string[]) {
    return execa(jailer, ['run', ...this.options(), ...args], { reject: false, timeout: 20_000, stdin: 'ignore' });
  }

  #spawn(args: readonly string[]): ChildProcess {
    const child = spawn(jailer, args, {
      detached: true,
      env: { SECRET: 'of the daemon' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#processes.push(child);
    return child;
  }
}

/** One line of /proc/PID/status. */
export async function statusOf(pid: number, key: string): Promise<string> {
  const status = await readFile(`/proc/${String(pid)}/status`, 'utf8');
  return new RegExp(`^${key}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(status)?.[1] ?? 'missing';
}

export interface Mount {
  readonly target: string;
  readonly options: readonly string[];
  readonly type: string;
  readonly propagation: readonly string[];
}

export async function mountsOf(pid: number): Promise<Mount[]> {
  const text = await readFile(`/proc/${String(pid)}/mountinfo`, 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [mount = '', source = ''] = line.split(' - ');
      const fields = mount.split(' ');
      return {
        target: fields[4] ?? '',
        options: (fields[5] ?? '').split(','),
        type: source.split(' ')[0] ?? '',
        propagation: fields.slice(6),
      };
    });
}

/** The v2 tree, and two v1 hierarchies where there are any: enough to see that each of them is joined. */
async function cgroupMounts(): Promise<string[]> {
  const own = await mountsOf(process.pid);
  const v1 = own.filter(({ type, target }) => type === 'cgroup' && /\/(memory|devices)$/.test(target));
  return [...v1, ...own.filter(({ type }) => type === 'cgroup2')].map(({ target }) => target);
}

async function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath);
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

function collect(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  return () => text;
}

async function removeGroup(folder: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      // The kernel takes a moment to forget the last process of a group.
      if (attempt === 40) throw error;
      await delay(25);
    }
  }
}
