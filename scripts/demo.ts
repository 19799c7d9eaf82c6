/**
 * `npm run demo`: a pod in a virtual machine, from nothing. Serves a busybox image from a registry on
 * loopback, starts a daemon with folders of its own, pulls, runs a pod, shows what its container
 * wrote and where the start-up time went, and removes everything again.
 */
import { readFile } from 'node:fs/promises';
import { release, type as systemName } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { buildBusyboxImage } from '../test/harness/busybox-image.ts';
import { TestNetwork } from '../test/harness/cni.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { freeFolder, removeFolder } from '../test/harness/free-folder.ts';
import { waitForPool } from '../test/harness/pool.ts';
import { TestRegistry } from '../test/harness/registry.ts';

interface Step {
  readonly name: string;
  readonly ms: number;
}

interface VerboseInfo {
  readonly vm?: { readonly origin?: string };
  readonly startup?: readonly Step[];
}

const began = performance.now();
const exitTimeoutMs = 60_000;
const poolTimeoutMs = 30_000;
const script = 'echo "hello from kernel $(uname -sr), pid $$, host name $(hostname), address $(hostname -i)"';

function say(text: string): void {
  const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(5);
  console.log(`${seconds} s  ${text}`);
}

function infoOf(map: Readonly<Record<string, string>>): VerboseInfo {
  return JSON.parse(map['info'] ?? '{}') as VerboseInfo;
}

function printSteps(title: string, totalMs: number, steps: readonly Step[]): void {
  console.log(`  ${title.padEnd(28)}${totalMs.toFixed(0).padStart(7)} ms`);
  // A step that names its parts, as `claim` does with vm.clone, is not shown beside them.
  const whole = steps.some(({ name }) => name.startsWith('vm.')) ? 'claim' : '';
  for (const step of steps.filter(({ name }) => name !== whole))
    console.log(`    ${step.name.padEnd(26)}${step.ms.toFixed(0).padStart(7)} ms`);
}

async function timed<T>(work: () => Promise<T>): Promise<{ readonly value: T; readonly ms: number }> {
  const started = performance.now();
  const value = await work();
  return { value, ms: performance.now() - started };
}

async function runPod(daemon: TestDaemon, image: string): Promise<void> {
  const { cri } = daemon;
  const config = {
    metadata: { name: 'demo', uid: 'demo', namespace: 'default', attempt: 0 },
    hostname: 'demo',
    log_directory: join(daemon.scratch, 'demo'),
    linux: {},
  };
  const sandbox = await timed(() => cri.call('RunPodSandbox', { config }));
  const podId = sandbox.value.pod_sandbox_id;
  const created = await timed(() =>
    cri.call('CreateContainer', {
      pod_sandbox_id: podId,
      sandbox_config: config,
      config: {
        metadata: { name: 'hello', attempt: 0 },
        image: { image },
        command: ['sh', '-c', script],
        log_path: 'hello.log',
        linux: { security_context: { namespace_options: { pid: 'CONTAINER' } } },
      },
    }),
  );
  const id = created.value.container_id;
  const started = await timed(() => cri.call('StartContainer', { container_id: id }));
  const deadline = Date.now() + exitTimeoutMs;
  for (;;) {
    const { status } = await cri.call('ContainerStatus', { container_id: id });
    if (status?.state === 'CONTAINER_EXITED') {
      if (status.exit_code !== 0)
        throw new Error(`the container ended with exit code ${String(status.exit_code)}: ${status.message}`);
      break;
    }
    if (Date.now() > deadline) throw new Error('the container does not end');
    await delay(20);
  }
  const pod = infoOf((await cri.call('PodSandboxStatus', { pod_sandbox_id: podId, verbose: true })).info);
  const container = infoOf((await cri.call('ContainerStatus', { container_id: id, verbose: true })).info);
  say('done');

  const line = (await readFile(join(config.log_directory, 'hello.log'), 'utf8')).trim();
  console.log(`\nthe container wrote:   ${line.split(' ').slice(3).join(' ')}`);
  console.log(`this host runs kernel: ${systemName()} ${release()}`);
  console.log(`\nwhere the time went (the virtual machine came from: ${pod.vm?.origin ?? 'unknown'})`);
  printSteps('RunPodSandbox', sandbox.ms, pod.startup ?? []);
  printSteps('CreateContainer, Start', created.ms + started.ms, container.startup ?? []);
  console.log();
}

await using resources = new AsyncDisposableStack();
const stop = (): void => {
  console.error('\ninterrupted, cleaning up');
  void resources.disposeAsync().then(() => process.exit(130));
};
process.once('SIGINT', stop).once('SIGTERM', stop);

say('building a busybox image and serving it from a registry on loopback');
const images = await freeFolder('demo');
resources.defer(() => removeFolder(images));
await buildBusyboxImage(images);
const registry = resources.use(await TestRegistry.start());
const image = await registry.push(images, 'kelyfos/busybox:demo');

say('starting kelyfos daemon in a folder of its own');
const network = resources.use(await TestNetwork.create());
const daemon = resources.use(
  await TestDaemon.start({
    registry,
    network,
    accelerator: 'auto',
    config: { vm: { classes: { default: { pool: 1 } } } },
  }),
);

say(`pulling ${image}`);
await daemon.cri.call('PullImage', { image: { image } });
say('waiting for the first virtual machine of the pool');
if (!(await waitForPool(daemon.cri, { timeoutMs: poolTimeoutMs })))
  say('the pool stays empty; the pod gets a machine of its own, more slowly');
say('running a pod');
await runPod(daemon, image);
say('cleaning up');
await resources.disposeAsync();
say('clean');
