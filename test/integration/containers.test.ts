import { readFile, rename, stat } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseLog, TestNode, type Pod } from '../harness/node.ts';

/** What containers see and do inside their virtual machine, through CRI. */
let node: TestNode;
let pod: Pod;

beforeAll(async () => {
  node = await TestNode.start();
  pod = await node.runPod({ name: 'web', config: { linux: { security_context: { privileged: true } } } });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const sh = (script: string): { readonly command: readonly string[] } => ({ command: ['sh', '-c', script] });
/** As the kubelet asks for an ordinary pod: CRI's own default is one pid namespace for the whole pod. */
const ownPids = { namespace_options: { pid: 'CONTAINER' } } as const;
const security = (securityContext: object): { readonly config: object } => ({
  config: { linux: { security_context: securityContext } },
});

test('resource limits are those that a service of the host would have', async () => {
  const show = "awk '/^Max (open files|processes)/ {print $(NF-2), $(NF-1)}' /proc/self/limits";
  const expected = 'unlimited unlimited\n1024 524288';
  const { output } = await node.runToEnd(pod, sh(show));
  expect(output).toBe(expected);
  const id = await node.startContainer(pod, security(ownPids));
  expect(await node.sh(id, show)).toBe(expected);
  expect(await node.sh(id, 'ulimit -n 524288; ulimit -n')).toBe('524288');
});

describe('exit', () => {
  test.each([
    ['true', 0, 'Completed'],
    ['exit 42', 42, 'Error'],
    ['kill -9 $$', 137, 'Error'],
  ])('%s', async (script, exitCode, reason) => {
    const { status } = await node.runToEnd(pod, sh(script));
    expect(status).toMatchObject({ exit_code: exitCode, reason });
    expect(BigInt(status.finished_at)).toBeGreaterThanOrEqual(BigInt(status.started_at));
  });

  test('a program that is not there fails in StartContainer', async () => {
    const id = await node.createContainer(pod, { command: ['/no/such/program'] });
    await expect(node.daemon.cri.call('StartContainer', { container_id: id })).rejects.toThrow(
      /\/no\/such\/program.*no such file/i,
    );
    expect(await node.status(id)).toMatchObject({ state: 'CONTAINER_EXITED', exit_code: 128, reason: 'StartError' });
  });

  test('memory over the limit is OOMKilled', async () => {
    const config = { linux: { resources: { memory_limit_in_bytes: String(16 << 20) } } };
    const { status } = await node.runToEnd(pod, {
      command: ['sh', '-c', 'tail -c 100m /dev/zero > /dev/null; exit $?'],
      config,
    });
    expect(status).toMatchObject({ exit_code: 137, reason: 'OOMKilled' });
  });
});

describe('logs', () => {
  test('nothing is lost at the exit of short jobs', async () => {
    for (let round = 0; round < 10; round += 1) {
      const { output } = await node.runToEnd(pod, sh('for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; echo -n end'));
      expect(output.split('\n')).toEqual([...Array.from({ length: 9 }, (_, i) => `line ${String(i + 1)}`), 'end']);
    }
  });

  test('several megabytes arrive whole, lines over 16 KiB in parts', async () => {
    const bytes = 3 << 20;
    const id = await node.startContainer(pod, sh(`head -c ${String(bytes)} /dev/zero | tr '\\0' x; echo; echo last`));
    await node.waitExited(id);
    const lines = await node.logLines(id);
    expect(lines.at(-1)).toEqual({ stream: 'stdout', tag: 'F', content: 'last' });
    const long = lines.slice(0, -1);
    expect(long.map(({ content }) => content.length).reduce((sum, length) => sum + length, 0)).toBe(bytes);
    expect(long.slice(0, -1).every(({ tag, content }) => tag === 'P' && content.length === 16384)).toBe(true);
  });

  test('go on in a new file after a rotation', async () => {
    const id = await node.startContainer(pod, sh('i=0; while true; do echo $i; i=$((i+1)); usleep 5000; done'));
    const { log_path: path } = await node.status(id);
    for (let size = 0; size < 200; size = (await stat(path)).size)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await rename(path, `${path}.1`);
    await node.daemon.cri.call('ReopenContainerLog', { container_id: id });
    await stat(path);
    for (let size = 0; size < 200; size = (await stat(path)).size)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await node.daemon.cri.call('StopContainer', { container_id: id, timeout: '0' });
    const numbers = [...parseLog(await readFile(`${path}.1`, 'utf8')), ...parseLog(await readFile(path, 'utf8'))].map(
      ({ content }) => Number(content),
    );
    expect(numbers).toEqual(numbers.map((_, index) => index));
    await expect(node.daemon.cri.call('ReopenContainerLog', { container_id: id })).rejects.toThrow(/exited/);
  });
});

describe('exec', () => {
  test('output, error output and exit code', async () => {
    const id = await node.startContainer(pod);
    expect(await node.exec(id, 'sh', '-c', 'echo a; echo b >&2; exit 5')).toEqual({
      stdout: 'a\n',
      stderr: 'b\n',
      exitCode: 5,
    });
    await expect(node.exec(id, '/nope')).rejects.toThrow(/nope/);
  });

  test('a time-out is DEADLINE_EXCEEDED and kills the whole tree', async () => {
    const id = await node.startContainer(pod);
    const call = node.daemon.cri.call('ExecSync', {
      container_id: id,
      cmd: ['sh', '-c', 'sleep 777 & sleep 777'],
      timeout: '1',
    });
    await expect(call).rejects.toMatchObject({ code: 4 });
    expect(await node.sh(id, 'ps | grep -c "[s]leep 777" || true')).toBe('0');
  });

  test('runs as the container: user, environment, root, namespaces', async () => {
    const id = await node.startContainer(pod, {
      config: {
        envs: [{ key: 'COLOUR', value: Buffer.from('blue') }],
        linux: { security_context: { ...ownPids, run_as_user: { value: '1000' } } },
      },
    });
    expect(await node.sh(id, 'echo $(id -u) $COLOUR $(hostname) $(cat /proc/1/comm)')).toBe('1000 blue web sleep');
  });
});

describe('isolation', () => {
  test('containers of a pod share hostname, network and IPC, and have pids and files of their own', async () => {
    const [a, b] = [
      await node.startContainer(pod, security(ownPids)),
      await node.startContainer(pod, security(ownPids)),
    ];
    expect(await node.sh(a, 'hostname')).toBe(await node.sh(b, 'hostname'));
    const namespaces = 'readlink /proc/self/ns/net; readlink /proc/self/ns/ipc';
    expect(await node.sh(a, namespaces)).toBe(await node.sh(b, namespaces));
    expect(await node.sh(a, 'cat /proc/1/comm; echo here > /tmp/mine')).toBe('sleep');
    expect((await node.exec(b, 'cat', '/tmp/mine')).exitCode).not.toBe(0);
    await node.sh(a, 'echo shared > /dev/shm/both');
    expect(await node.sh(b, 'cat /dev/shm/both')).toBe('shared');
  });

  test('the default capabilities, seccomp and no more', async () => {
    const script =
      'grep -E "^(CapEff|CapBnd|Seccomp):" /proc/self/status; mknod /tmp/disk b 254 0 && head -c1 /tmp/disk; unshare -m true; echo end';
    const { output } = await node.runToEnd(pod, {
      ...sh(script),
      ...security({ seccomp: { profile_type: 'RuntimeDefault' } }),
    });
    expect(output).toContain('CapEff:\t00000000a80425fb');
    expect(output).toContain('Seccomp:\t2');
    expect(output).toMatch(/disk: Operation not permitted/);
    expect(output).toMatch(/unshare.*Operation not permitted/);
  });

  test('privileged, capabilities, no_new_privs, read-only root', async () => {
    const privileged = await node.runToEnd(pod, {
      ...sh('grep CapEff /proc/self/status; ls /dev/vda'),
      ...security({ privileged: true }),
    });
    expect(privileged.output).toContain('CapEff:\t000001ffffffffff');
    const dropped = await node.runToEnd(pod, {
      ...sh('grep -E "^(CapEff|NoNewPrivs)" /proc/self/status; touch /x'),
      ...security({
        capabilities: { drop_capabilities: ['ALL'], add_capabilities: ['NET_ADMIN'] },
        no_new_privs: true,
        readonly_rootfs: true,
      }),
    });
    expect(dropped.output).toContain('CapEff:\t0000000000001000');
    expect(dropped.output).toContain('NoNewPrivs:\t1');
    expect(dropped.output).toMatch(/touch: \/x: Read-only file system/);
  });

  test('users by number and name, groups merged from the image', async () => {
    const numbers = await node.runToEnd(pod, {
      ...sh('id'),
      ...security({ run_as_user: { value: '1000' }, run_as_group: { value: '2000' }, supplemental_groups: ['7'] }),
    });
    expect(numbers.output).toMatch(/^uid=1000\(user\) gid=2000 groups=.*7.*50000\(extra\)/);
    const name = await node.runToEnd(pod, { ...sh('id -u; echo $HOME'), ...security({ run_as_username: 'user' }) });
    expect(name.output).toBe('1000\n/home/user');
    await expect(node.createContainer(pod, security({ run_as_username: 'nosuch' }))).rejects.toThrow(/nosuch/);
  });

  test('masked and read-only paths', async () => {
    const { output } = await node.runToEnd(pod, {
      ...sh('cat /proc/keys | wc -c; echo 1 > /proc/sys/kernel/domainname; ls /sys/firmware | wc -l'),
      ...security({ masked_paths: ['/proc/keys', '/sys/firmware'], readonly_paths: ['/proc/sys'] }),
    });
    expect(output).toMatch(/^0\n/);
    expect(output).toMatch(/Read-only file system/);
    expect(output).toMatch(/\n0$/);
  });
});

describe('stop', () => {
  test('the stop signal, then SIGKILL after the grace period', async () => {
    const polite = await node.startContainer(
      pod,
      sh('trap "exit 9" TERM; touch /tmp/ready; while true; do sleep 0.05; done'),
    );
    await node.sh(polite, 'until [ -e /tmp/ready ]; do usleep 10000; done');
    await node.daemon.cri.call('StopContainer', { container_id: polite, timeout: '30' });
    expect((await node.status(polite)).exit_code).toBe(9);
    const stubborn = await node.startContainer(
      pod,
      sh('trap "" TERM; touch /tmp/ready; while true; do sleep 0.05; done'),
    );
    await node.sh(stubborn, 'until [ -e /tmp/ready ]; do usleep 10000; done');
    await node.daemon.cri.call('StopContainer', { container_id: stubborn, timeout: '1' });
    expect((await node.status(stubborn)).exit_code).toBe(137);
  });

  test('removing a running container kills it; names and slots can be used again', async () => {
    for (let round = 0; round < 3; round += 1) {
      const id = await node.startContainer(pod, { name: 'again' });
      await node.daemon.cri.call('RemoveContainer', { container_id: id });
      await node.daemon.cri.call('RemoveContainer', { container_id: id });
    }
  });
});

test('a pod that dies is NOTREADY, its containers EXITED, and it can be removed', async () => {
  const doomed = await node.runPod({ name: 'doomed' });
  const id = await node.startContainer(doomed);
  const { info } = await node.daemon.cri.call('PodSandboxStatus', { pod_sandbox_id: doomed.id, verbose: true });
  const { pid } = JSON.parse(info['info'] ?? '{}') as { pid: number };
  process.kill(pid, 'SIGKILL');
  await node.waitExited(id);
  while ((await node.podStatus(doomed)).state !== 'SANDBOX_NOTREADY')
    await new Promise((resolve) => setTimeout(resolve, 20));
  await node.removePod(doomed);
});
