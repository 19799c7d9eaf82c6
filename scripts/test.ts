/**
 * Every check and test: static checks, unit tests, Rust tests, integration tests, conformance tests. Goes on after a
 * failure; the last line says `N passed, N failed`. Run it by `npm test`, which sets the machine up first.
 */
import { join } from 'node:path';
import { execa } from 'execa';
import { inPrivateHost } from '../test/harness/private-host.ts';
import { runIntegrationTests } from './integration-tests.ts';
import { type Outcome, runJest } from './jest-run.ts';

const root = join(import.meta.dirname, '..');
const minuteMs = 60_000;

async function runChecks(): Promise<Outcome> {
  const result = await execa(process.execPath, ['scripts/check.ts'], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    reject: false,
    timeout: 20 * minuteMs,
  });
  return result.failed ? { passed: 0, failed: 1 } : { passed: 1, failed: 0 };
}

async function runRustTests(): Promise<Outcome> {
  const result = await execa('cargo', ['test', '--workspace', '--no-fail-fast', '--locked'], {
    cwd: root,
    stdin: 'ignore',
    stdout: ['inherit', 'pipe'],
    stderr: 'inherit',
    reject: false,
    timeout: 20 * minuteMs,
  });
  let [passed, failed] = [0, 0];
  for (const match of result.stdout.matchAll(/^test result: .*? (\d+) passed; (\d+) failed/gm)) {
    passed += Number(match[1]);
    failed += Number(match[2]);
  }
  // Failed without a failed test: it did not compile, or was cut off.
  return { passed, failed: failed === 0 && result.failed ? 1 : failed };
}

/** All runs of critest; each spec of each run counts. */
async function runConformanceTests(): Promise<Outcome> {
  const { exitCode, output } = await inPrivateHost(join(root, 'scripts/critest.ts'), []);
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/m.exec(output) ?? [];
  // It did not come to its end.
  if (passed === undefined || failed === undefined) return { passed: 0, failed: 1 };
  return { passed: Number(passed), failed: failed === '0' && exitCode !== 0 ? 1 : Number(failed) };
}

const stages: readonly { readonly name: string; run(): Promise<Outcome> }[] = [
  { name: 'static checks', run: runChecks },
  { name: 'unit tests', run: () => runJest('jest.config.js', [], 15 * minuteMs) },
  { name: 'Rust tests', run: runRustTests },
  { name: 'integration tests', run: () => runIntegrationTests([]) },
  { name: 'conformance tests', run: runConformanceTests },
];

let [passed, failed] = [0, 0];
const summary: string[] = [];
for (const stage of stages) {
  console.log(`\n==== ${stage.name}`);
  const started = performance.now();
  const outcome = await stage.run();
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  summary.push(`${stage.name}: ${String(outcome.passed)} passed, ${String(outcome.failed)} failed (${seconds} s)`);
  passed += outcome.passed;
  failed += outcome.failed;
}
console.log(`\n${summary.join('\n')}\n`);
console.log(`${String(passed)} passed, ${String(failed)} failed`);
process.exitCode = failed > 0 ? 1 : 0;
