import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { leaksSince, snapshotHost } from '../harness/leaks.ts';
import { CritestNode, parallelPods } from './node.ts';
import { logFolder } from '../harness/private-host.ts';
import { runCritest } from './run.ts';
import { judge } from './skips.ts';

export const variants = ['whole', 'websocket', 'parallel', 'peer'] as const;
export type Variant = (typeof variants)[number];

interface VariantOptions {
  readonly title: string;
  readonly runtime: 'kelyfos' | 'containerd';
  readonly focus?: string;
  readonly flags?: readonly string[];
  readonly parallel?: number;
}

const options: Readonly<Record<Variant, VariantOptions>> = {
  whole: { title: 'all specs, streaming over SPDY', runtime: 'kelyfos' },
  websocket: {
    title: 'streaming over WebSockets',
    runtime: 'kelyfos',
    focus: 'Streaming',
    flags: ['-websocket-exec', '-websocket-attach', '-websocket-portforward'],
  },
  parallel: { title: 'all specs, four at a time', runtime: 'kelyfos', parallel: parallelPods },
  peer: { title: 'all specs against containerd', runtime: 'containerd' },
};

export interface Outcome {
  readonly passed: number;
  readonly failed: number;
}

interface VariantResult extends Outcome {
  readonly seconds: number;
}

async function runVariant(
  variant: Variant,
  node: CritestNode,
  logs: string,
  focus: string | undefined,
): Promise<VariantResult> {
  const { title, runtime, ...rest } = options[variant];
  console.log(`\ncritest: ${title}`);
  const run = await runCritest({
    ...{ endpoint: node.endpoint, logs, name: variant },
    ...rest,
    ...(focus === undefined ? {} : { focus }),
  });
  const { passed, failed, skipped, unexpected } = judge(run.specs);
  for (const { name, reason } of failed) console.log(`  FAILED ${name}\n    ${reason.replaceAll('\n', '\n    ')}`);
  const what = runtime === 'containerd' ? 'skipped' : 'SKIPPED, but must not be';
  for (const { name, reason } of unexpected) console.log(`  ${what}: ${name}\n    ${reason}`);
  for (const why of new Set(skipped.map((skip) => skip.why))) {
    const specs = skipped.filter((skip) => skip.why === why).map(({ spec }) => spec.name);
    console.log(`  skipped, ${String(specs.length)}: ${why}\n${specs.map((name) => `    ${name}`).join('\n')}`);
  }
  // The peer is there to compare with: what it leaves out, and how well it does, is not ours.
  const bad = failed.length + (runtime === 'containerd' ? 0 : unexpected.length);
  const left = skipped.length + (runtime === 'containerd' ? unexpected.length : 0);
  const [p, f, s] = [passed, bad, left].map(String);
  console.log(
    `critest: ${title}: ${p ?? ''} passed, ${f ?? ''} failed, ${s ?? ''} skipped in ${run.seconds.toFixed(0)} s`,
  );
  if (run.specs.length === 0) throw new Error(`critest ran no spec; see ${join(logs, `${variant}.log`)}`);
  return runtime === 'containerd'
    ? { passed: 0, failed: 0, seconds: run.seconds }
    : { passed, failed: bad, seconds: run.seconds };
}

/** The named runs one after the other, and a leak check, in a private host; what came of them. Logs are left in target/critest. */
export async function runVariants(wanted: readonly Variant[], focus?: string): Promise<Outcome> {
  const logs = logFolder('critest');
  await rm(logs, { recursive: true, force: true });
  await mkdir(logs, { recursive: true });
  const before = await snapshotHost();
  const results = new Map<Variant, VariantResult>();
  for (const runtime of ['kelyfos', 'containerd'] as const) {
    const chosen = wanted.filter((variant) => options[variant].runtime === runtime);
    if (chosen.length === 0) continue;
    await using node = await CritestNode.start(runtime);
    try {
      for (const variant of chosen) results.set(variant, await runVariant(variant, node, logs, focus));
    } finally {
      for (const [name, text] of Object.entries(await node.logs()))
        await writeFile(join(logs, `${runtime}-${name}.log`), text);
    }
  }
  const [own, peer] = [results.get('whole'), results.get('peer')];
  if (own !== undefined && peer !== undefined) {
    const ratio = (own.seconds / peer.seconds).toFixed(1);
    console.log(
      `critest: ${own.seconds.toFixed(0)} s, containerd ${peer.seconds.toFixed(0)} s: ${ratio} times as long`,
    );
  }
  const leaks = await leaksSince(before);
  console.log(leaks.length === 0 ? 'leak check: ok' : `leak check: FAILED, left behind:\n  ${leaks.join('\n  ')}`);
  const outcomes = [...results.values(), leaks.length === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 }];
  return outcomes.reduce<Outcome>(
    (sum, { passed, failed }) => ({ passed: sum.passed + passed, failed: sum.failed + failed }),
    { passed: 0, failed: 0 },
  );
}
