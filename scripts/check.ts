/**
 * Every static check, one after the other, all of them even when one fails:
 * `npm run check`, or `npm run check -- --fix` to repair what can be repaired.
 * `npm run check -- eslint knip` runs only those.
 */
import { join } from 'node:path';
import { execa } from 'execa';

interface Check {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Arguments that repair; absent when the check cannot. */
  readonly fix?: readonly string[];
}

const root = join(import.meta.dirname, '..');
const timeoutMs = 15 * 60_000;

const checks: readonly Check[] = [
  { name: 'tsc', program: 'tsc', args: ['--pretty'] },
  {
    name: 'eslint',
    program: 'eslint',
    // No cache: rules that know types look across files.
    args: ['--max-warnings=0', '.'],
    fix: ['--fix', '--max-warnings=0', '.'],
  },
  {
    name: 'prettier',
    program: 'prettier',
    args: ['--check', '--cache', '--log-level=warn', '.'],
    fix: ['--write', '--log-level=warn', '.'],
  },
  {
    name: 'depcruise',
    program: 'depcruise',
    args: ['src', 'scripts', 'test', 'guest/image', '--output-type', 'err-long'],
  },
  { name: 'knip', program: 'knip', args: ['--no-progress'] },
  {
    name: 'clippy',
    program: 'cargo',
    args: ['clippy', '--quiet', '--workspace', '--all-targets', '--', '-D', 'warnings'],
  },
  { name: 'rustfmt', program: 'cargo', args: ['fmt', '--all', '--check'], fix: ['fmt', '--all'] },
];

const fixing = process.argv.includes('--fix');
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const failed: string[] = [];
for (const check of checks) {
  if (wanted.length > 0 && !wanted.includes(check.name)) continue;
  const started = performance.now();
  const result = await execa(check.program, fixing ? (check.fix ?? check.args) : check.args, {
    cwd: root,
    preferLocal: true,
    reject: false,
    all: true,
    timeout: timeoutMs,
    env: { FORCE_COLOR: process.stdout.isTTY ? '1' : '0' },
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`check: ${check.name} ${result.failed ? 'FAILED' : 'ok'} (${seconds} s)`);
  if (!result.failed) continue;
  failed.push(check.name);
  console.log(result.all !== '' ? result.all : result.shortMessage);
}
if (failed.length > 0) {
  console.log(`check: failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
