import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';

/** What came of a group of tests. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
}

interface JestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numRuntimeErrorTestSuites: number;
}

const root = join(import.meta.dirname, '..');

/** Runs jest in view of the user. A file that cannot even be loaded counts as one failure. */
export async function runJest(config: string, args: readonly string[], timeoutMs: number): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-jest-'));
  const report = join(folder, 'report.json');
  const flags = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'];
  const jest = join(root, 'node_modules/jest/bin/jest.js');
  try {
    const result = await execa(
      process.execPath,
      [...flags, jest, '--config', join(root, config), '--json', '--outputFile', report, ...args],
      // The report also goes to standard output, where nobody wants it; progress goes to standard error.
      { cwd: root, stdin: 'ignore', stdout: 'ignore', stderr: 'inherit', reject: false, timeout: timeoutMs },
    );
    if (result.timedOut) console.error(`jest: ended after ${String(timeoutMs / 60_000)} minutes`);
    const text = await readFile(report, 'utf8').catch(() => undefined);
    if (text === undefined) return { passed: 0, failed: 1 };
    const { numPassedTests, numFailedTests, numRuntimeErrorTestSuites } = JSON.parse(text) as JestReport;
    const failed = numFailedTests + numRuntimeErrorTestSuites;
    // Jest can also fail as a whole, by its own time-out or for want of tests.
    return { passed: numPassedTests, failed: failed === 0 && result.failed ? 1 : failed };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
