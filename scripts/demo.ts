/**
 * `npm run demo`: a pod in a virtual machine, from nothing. Serves a busybox image from a registry on
 * loopback, starts a daemon with folders of its own, pulls, runs a pod, shows what its container
 * wrote and where the start-up time went, and removes everything again.
 */
import { readFile } from 'node:fs/promises';
import { release, type as systemName } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readTrace } from '../src/cli/trace/read-trace.ts';
import { waterfall } from '../src/cli/trace/waterfall.ts';
import { buildBusyboxImage } from '../test/harness/busybox-image.ts';
import { TestNetwork } from '../test/harness/cni.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { freeFolder, removeFolder } from '../test/harness/free-folder.ts';
import { waitForPool } from '../test/harness/pool.ts';
import { TestRegistry } from '../test/harness/registry.ts';

const began = performance.now();
const exitTimeoutMs = 60_000;
const poolTimeoutMs = 30_000;
const script = 'echo "hello from kernel $(uname -sr), pid $$, host name $(hostname), address $(hostname -i)"';

function say(text: string): void {
  const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(5);
  console.log(`${seconds} s  ${text}`);
}

async function runPod(daemon: TestDaemon, image: string): Promise<void> {
  const { cri } = daemon;
  const config = {
    metadata: { name: 'demo', uid: 'demo', namespace: 'default', attempt: 0 },
    hostname: 'demo',
    log_directory: join(daemon.scratch, 'demo'),
    linux: {},
  };
  const { pod_sandbox_id: podId } = await cri.call('RunPodSandbox', { config });
  const { container_id: id } = await cri.call('CreateContainer', {
    pod_sandbox_id: podId,
    sandbox_config: config,
    config: {
      metadata: { name: 'hello', attempt: 0 },
      image: { image },
      command: ['sh', '-c', script],
      log_path: 'hello.log',
      linux: { security_context: { namespace_options: { pid: 'CONTAINER' } } },
    },
  });
  await cri.call('StartContainer', { container_id: id });
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
  say('done');

  const line = (await readFile(join(config.log_directory, 'hello.log'), 'utf8')).trim();
  console.log(`\nthe container wrote:   ${line.split(' ').slice(3).join(' ')}`);
  console.log(`this host runs kernel: ${systemName()} ${release()}`);
  const columns = process.stdout.isTTY ? process.stdout.columns : 120;
  console.log('\nwhere the time went, as "kelyfos trace" shows it:');
  console.log(waterfall(await readTrace(cri, podId, AbortSignal.timeout(exitTimeoutMs)), columns));
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
