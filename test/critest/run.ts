import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { type Spec, readReport } from './report.ts';
import { unreachableSpec } from './skips.ts';

export interface RunOptions {
  /** unix:///path of a CRI socket. */
  readonly endpoint: string;
  /** Takes what critest says: `NAME.log`, `NAME-errors.log`. */
  readonly logs: string;
  readonly name: string;
  /** Only specs whose name matches; the others are no part of the result. */
  readonly focus?: string;
  readonly flags?: readonly string[];
  readonly parallel?: number;
  /** Its log tells each step of each spec; benchmarks refuse to. */
  readonly verbose?: boolean;
}

export interface CritestRun {
  readonly specs: readonly Spec[];
  /** Of the whole program. */
  readonly seconds: number;
}

const libexec = join(import.meta.dirname, '../../libexec');
const timeoutMs = 30 * 60_000;

/** Runs critest to its end. Rejects when it leaves no report. */
export async function runCritest(options: RunOptions): Promise<CritestRun> {
  const { endpoint, logs, name, focus, flags = [], parallel = 1, verbose = true } = options;
  // In parallel ginkgo writes the report beside the test program, for which critest makes a link in
  // its folder for temporary files; otherwise into the current one. Here it is the same.
  const folder = `/tmp/${name}`;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  const args = [
    `-runtime-endpoint=${endpoint}`,
    // The flag is also one of Go, which ginkgo objects to.
    ...(parallel === 1 ? [] : [`-parallel=${String(parallel)}`]),
    `-ginkgo.skip=${unreachableSpec}`,
    ...(focus === undefined ? [] : [`-ginkgo.focus=${focus}`]),
    ...(verbose ? ['-ginkgo.v'] : []),
    '-ginkgo.no-color',
    '-ginkgo.json-report=report.json',
    ...flags,
  ];
  const started = performance.now();
  const result = await execa(join(libexec, 'critest'), args, {
    cwd: folder,
    env: { TMPDIR: folder, PATH: `${libexec}:${process.env['PATH'] ?? ''}` },
    stdin: 'ignore',
    stdout: { file: join(logs, `${name}.log`) },
    stderr: { file: join(logs, `${name}-errors.log`) },
    reject: false,
    timeout: timeoutMs,
  });
  const seconds = (performance.now() - started) / 1000;
  const report = await readFile(join(folder, 'report.json'), 'utf8').catch((error: unknown) => {
    throw new Error(`critest left no report: ${result.shortMessage ?? 'it ended well'}`, { cause: error });
  });
  // A spec that the focus leaves out looks like one that a flag skips.
  const specs = readReport(report).filter(
    (spec) => focus === undefined || spec.outcome !== 'skipped' || spec.reason !== '',
  );
  return { specs, seconds };
}
