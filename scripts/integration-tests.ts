import { leaksSince, snapshotHost } from '../test/harness/leaks.ts';
import { type Outcome, runJest } from './jest-run.ts';

/** All of it has to fit into an hour on two cores without hardware virtualisation. */
const timeoutMs = 50 * 60_000;

/** The integration tests that match, then the leak check: the host is to be as it was before. It counts as one more test. */
export async function runIntegrationTests(args: readonly string[]): Promise<Outcome> {
  const before = await snapshotHost();
  const { passed, failed } = await runJest(
    'jest.integration.config.js',
    ['--runInBand', '--forceExit', ...args],
    timeoutMs,
  );
  const leaks = await leaksSince(before);
  if (leaks.length === 0) {
    console.error('leak check: ok');
    return { passed: passed + 1, failed };
  }
  console.error(`leak check: FAILED, left behind:\n${leaks.map((leak) => `  ${leak}`).join('\n')}`);
  return { passed, failed: failed + 1 };
}
