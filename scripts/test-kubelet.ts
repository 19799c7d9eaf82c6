/**
 * `npm run test:kubelet`: a real kubelet with a real control plane drives kelyfos, in a private host.
 * Arguments are jest's, such as a part of a file's name. Not part of `npm test`: it takes ten minutes,
 * after ten minutes to build Kubernetes.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { leaksSince, snapshotHost } from '../test/harness/leaks.ts';
import { inPrivateHost, isPrivateHost } from '../test/harness/private-host.ts';
import { addNodeAddress } from '../test/kubelet/node-address.ts';
import { runJest } from './jest-run.ts';

const timeoutMs = 50 * 60_000;
/** Where a kubelet leaves links to logs, whatever it is told. */
const containerLogs = '/var/log/containers';

async function run(): Promise<number> {
  await mkdir(containerLogs, { recursive: true });
  await execa('mount', ['-t', 'tmpfs', 'tmpfs', containerLogs]);
  await addNodeAddress();
  const before = await snapshotHost();
  const outcome = await runJest(
    'jest.kubelet.config.js',
    ['--runInBand', '--forceExit', ...process.argv.slice(2)],
    timeoutMs,
  );
  const leaks = await leaksSince(before);
  console.log(leaks.length === 0 ? 'leak check: ok' : `leak check: FAILED, left behind:\n  ${leaks.join('\n  ')}`);
  const passed = outcome.passed + (leaks.length === 0 ? 1 : 0);
  const failed = outcome.failed + (leaks.length === 0 ? 0 : 1);
  console.log(`${String(passed)} passed, ${String(failed)} failed`);
  return failed > 0 ? 1 : 0;
}

process.exitCode = isPrivateHost()
  ? await run()
  : (await inPrivateHost(join(import.meta.dirname, 'test-kubelet.ts'), process.argv.slice(2))).exitCode;
