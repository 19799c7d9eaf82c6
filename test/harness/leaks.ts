import { glob, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';

/** What a test run can leave behind on a host, by kind. */
export type HostSnapshot = ReadonlyMap<string, ReadonlySet<string>>;

/** Programs that are ours or started by us; the kernel cuts names off after 15 bytes. */
const programs = /^(qemu-system-|kelyfos|skopeo|mkfs\.erofs|docker-registry|crictl|containerd)/;
const watchedFolders = [tmpdir(), '/run', '/run/netns', '/var/lib/cni/results', '/var/lib/cni/networks', '/var/lib'];
/** Of those folders, only names that can be ours. */
const ours = /kelyfos|^cni-|^kt[0-9a-f]{8}/;
/** Processes, links and groups go a moment after what held them. */
const settleMs = 10_000;
const pauseMs = 250;

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch {
    return [];
  }
}

async function processes(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await names('/proc')).filter((name) => /^\d+$/.test(name))) {
    try {
      const comm = (await readFile(`/proc/${pid}/comm`, 'utf8')).trim();
      if (!programs.test(comm)) continue;
      const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ').slice(0, 160);
      // A zombie holds nothing and is its parent's business.
      if (command !== '') found.push(`${pid} ${command}`);
    } catch {
      // It has just ended.
    }
  }
  return found;
}

async function links(): Promise<string[]> {
  const { stdout } = await execa('ip', ['-o', 'link', 'show'], { timeout: 10_000 });
  return stdout.split('\n').map((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? line);
}

async function mountInfo(): Promise<string[][]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' '));
}

async function cgroups(mounts: readonly string[][]): Promise<string[]> {
  const found: string[] = [];
  for (const fields of mounts) {
    const type = fields[fields.indexOf('-') + 1];
    const mountPoint = fields[4];
    if (mountPoint === undefined || (type !== 'cgroup' && type !== 'cgroup2')) continue;
    // The parent of all may stay: it is made once for a host.
    for (const group of await names(join(mountPoint, 'kelyfos'))) {
      if (!group.includes('.') && !/^(tasks|notify_on_release)$/.test(group))
        found.push(join(mountPoint, 'kelyfos', group));
    }
    for await (const group of glob('**/kelyfos-*', { cwd: mountPoint })) found.push(join(mountPoint, group));
  }
  return found;
}

async function files(): Promise<string[]> {
  const found: string[] = [];
  for (const folder of watchedFolders) {
    for (const name of await names(folder)) if (ours.test(name)) found.push(join(folder, name));
  }
  return found;
}

async function firewall(): Promise<string[]> {
  const rules: string[] = [];
  for (const tool of ['iptables', 'ip6tables']) {
    const { stdout } = await execa(tool, ['-w', '5', '-t', 'nat', '-S'], { reject: false, timeout: 10_000 });
    for (const line of stdout.split('\n')) if (line.includes('CNI-')) rules.push(`${tool}: ${line}`);
  }
  return rules;
}

async function loopDevices(): Promise<string[]> {
  const { stdout } = await execa('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'], {
    reject: false,
    timeout: 10_000,
  });
  return stdout.split('\n').filter((line) => line !== '');
}

export async function snapshotHost(): Promise<HostSnapshot> {
  const mounts = await mountInfo();
  const kinds: readonly [string, readonly string[]][] = [
    ['process', await processes()],
    ['network namespace', await names('/run/netns')],
    ['network interface', await links()],
    // iproute2 makes the folder of network namespaces a mount of its own with the first one, once for a host.
    ['mount', mounts.map((fields) => fields[4] ?? '').filter((target) => target !== '/run/netns')],
    ['cgroup', await cgroups(mounts)],
    ['file', await files()],
    ['firewall rule', await firewall()],
    ['loop device', await loopDevices()],
  ];
  return new Map(kinds.map(([kind, entries]) => [kind, new Set(entries)]));
}

/** What is there now and was not before; one line each, `kind: name`. */
export function newSince(before: HostSnapshot, after: HostSnapshot): string[] {
  return [...after].flatMap(([kind, entries]) =>
    [...entries].filter((entry) => before.get(kind)?.has(entry) !== true).map((entry) => `${kind}: ${entry}`),
  );
}

/** What has come to stay since `before`; waits a little for what is on its way out. */
export async function leaksSince(before: HostSnapshot, waitMs = settleMs): Promise<string[]> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const leaks = newSince(before, await snapshotHost());
    if (leaks.length === 0 || Date.now() > deadline) return leaks;
    await delay(pauseMs);
  }
}
