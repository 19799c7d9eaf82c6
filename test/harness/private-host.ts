import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

const inside = 'KELYFOS_PRIVATE_HOST';
const root = join(import.meta.dirname, '../..');

export interface PrivateRun {
  readonly exitCode: number;
  /** Its standard output. */
  readonly output: string;
}

/**
 * Runs a script of this project with namespaces of its own, /tmp and /run too: fixed ports and firewall
 * rules meet nobody else's, and whatever it leaves goes with it. Its output is shown. Needs root.
 */
export async function inPrivateHost(script: string, args: readonly string[]): Promise<PrivateRun> {
  // On disk and not below /tmp: disks of virtual machines are made there.
  const folder = await mkdtemp('/var/tmp/kelyfos-host-');
  try {
    const setUp = `
      set -e
      count=$1; shift
      while [ "$count" -gt 0 ]; do
        mkdir -p "$0/\${1#/tmp/}"
        mount --bind "$1" "$0/\${1#/tmp/}"
        count=$((count - 1)); shift
      done
      mount --rbind "$0" /tmp && chmod 1777 /tmp
      mount -t tmpfs tmpfs /run && mkdir -p /run/lock /run/netns
      ip link set lo up
      exec "$@"`;
    // What is needed of the host's /tmp is there as well.
    const kept = [root, process.env['KELYFOS_CACHE'] ?? ''].filter((path) => path.startsWith('/tmp/'));
    const namespaces = ['--mount', '--net', '--ipc', '--pid', '--fork', '--mount-proc', '--kill-child'];
    const program = [process.execPath, script, ...args];
    const result = await execa(
      'unshare',
      [...namespaces, '--propagation', 'private', 'sh', '-c', setUp, folder, String(kept.length), ...kept, ...program],
      { stdin: 'ignore', stdout: ['inherit', 'pipe'], stderr: 'inherit', reject: false, env: { [inside]: '1' } },
    );
    return { exitCode: result.exitCode ?? 1, output: result.stdout };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Whether this process was started by `inPrivateHost`. */
export function isPrivateHost(): boolean {
  return process.env[inside] === '1';
}

/** A folder for logs that outlives the private host. */
export function logFolder(name: string): string {
  return join(root, 'target', name);
}
