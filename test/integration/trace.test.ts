import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { kelyfos } from '../harness/kelyfos.ts';
import { TestNode } from '../harness/node.ts';
import { TraceCollector } from '../harness/trace-collector.ts';

/** Where the time went: of real pods, by the command line, after a restart of the daemon too. */
let node: TestNode;
let collector: TraceCollector;
let folder: string;

interface Step {
  readonly name: string;
  readonly startMs: number;
  readonly ms: number;
  readonly depth: number;
}

interface Trace {
  readonly id: string;
  readonly origin: string;
  readonly requests: readonly {
    readonly request: string;
    readonly ms: number;
    readonly steps: readonly Step[];
    readonly container?: { readonly name: string };
  }[];
}

beforeAll(async () => {
  folder = await freeFolder('trace');
  collector = await TraceCollector.start();
  node = await TestNode.start({
    config: { vm: { classes: { default: { pool: 0 } } }, tracing: { endpoint: collector.endpoint } },
  });
});

afterAll(async () => {
  await node[Symbol.asyncDispose]();
  await collector[Symbol.asyncDispose]();
  await removeFolder(folder);
});

async function traceOf(pod: string): Promise<Trace> {
  const { exitCode, text, stderr } = await kelyfos(node.daemon.socket, ['trace', pod, '--json']);
  expect([exitCode, stderr]).toEqual([0, '']);
  return JSON.parse(text) as Trace;
}

/** Rounding leaves a hundredth. */
const slackMs = 0.05;

test('the steps of a pod from RunPodSandbox to the first line of its container', async () => {
  const pod = await node.runPod();
  const { output } = await node.runToEnd(pod, { command: ['echo', 'hello'] });
  expect(output).toContain('hello');
  const trace = await traceOf(pod.id.slice(0, 20));
  expect(trace).toMatchObject({ id: pod.id, origin: 'clone' });
  expect(trace.requests.map(({ request }) => request)).toEqual(['RunPodSandbox', 'CreateContainer', 'StartContainer']);
  const [run, create, start] = trace.requests;
  const names = (request: typeof run): readonly string[] =>
    (request?.steps ?? []).map(({ name, depth }) => `${String(depth)} ${name}`);
  expect(names(run)).toEqual(
    expect.arrayContaining([
      ...['0 claim', '1 vm.clone', '2 vm.template', '2 vm.site', '3 vm.netns', '2 vm.qemu', '2 vm.guest'],
      ...['0 network', '1 cni bridge', '1 network join', '0 configure guest', '0 record ready'],
    ]),
  );
  expect(names(create)).toEqual(expect.arrayContaining(['0 attach disks', '0 create in guest']));
  expect(names(start)).toEqual(expect.arrayContaining(['0 start in guest', '0 first log line']));

  // What is part of something lies within it, and no step of RunPodSandbox outlasts its answer.
  for (const { steps } of trace.requests) {
    const around: Step[] = [];
    for (const step of steps) {
      around.length = step.depth;
      const outer = around.at(-1);
      if (outer !== undefined) {
        expect(step.startMs).toBeGreaterThanOrEqual(outer.startMs);
        expect(step.startMs + step.ms).toBeLessThanOrEqual(outer.startMs + outer.ms + slackMs);
      }
      around.push(step);
    }
  }
  for (const { startMs, ms } of run?.steps ?? []) expect(startMs + ms).toBeLessThanOrEqual((run?.ms ?? 0) + slackMs);

  await node.daemon.stop();
  await node.daemon.start();
  expect(await traceOf(pod.id)).toEqual(trace);
  await node.removePod(pod);
});

test('a waterfall in the terminal and as a drawing, of a pod by its name', async () => {
  const pod = await node.runPod({ name: 'shown' });
  const name = 'test/shown';
  const { exitCode, text } = await kelyfos(node.daemon.socket, ['trace', name]);
  expect(exitCode).toBe(0);
  expect(text.split('\n')[0]).toBe(`pod ${name} (${pod.id.slice(0, 13)}), virtual machine from: clone`);
  expect(text).toMatch(/^RunPodSandbox +0\.0 ms +[\d.]+ m?s {2}▕█+ *▏$/m);
  expect(text).toMatch(/^ {4}cni bridge +[\d.]+ m?s +[\d.]+ m?s {2}▕ *▒+ *▏$/m);

  const file = join(await mkdtemp(join(folder, 'svg-')), 'pod.svg');
  expect(await kelyfos(node.daemon.socket, ['trace', name, '--svg', file])).toMatchObject({ exitCode: 0, text: '' });
  expect(await readFile(file, 'utf8')).toMatch(/^<svg xmlns=[\s\S]*>cni bridge<[\s\S]*<\/svg>\n$/);

  await node.removePod(pod);
  expect(await kelyfos(node.daemon.socket, ['trace', pod.id])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining(`no pod sandbox "${pod.id}"`),
  });
});

test('a collector of OpenTelemetry gets the requests of a pod as one trace', async () => {
  const pod = await node.runPod({ name: 'exported' });
  await node.runToEnd(pod, { name: 'app', command: ['echo', 'hello'] });
  const traceId = pod.id.slice(0, 32);
  await collector.spanWith((span) => span.traceId === traceId && span.name === 'first log line');
  const spans = collector.spans.filter((span) => span.traceId === traceId);
  const named = (wanted: string) => spans.find(({ name }) => name === wanted);
  const facts = (wanted: string) =>
    Object.fromEntries((named(wanted)?.attributes ?? []).map(({ key, value }) => [key, value.stringValue]));
  expect(facts('RunPodSandbox')).toMatchObject({
    ...{ 'k8s.pod.name': 'exported', 'k8s.namespace.name': 'test', 'kelyfos.vm.origin': 'clone' },
  });
  expect(facts('StartContainer')).toMatchObject({ 'k8s.container.name': 'app', 'container.image.name': node.image });
  expect(named('claim')?.parentSpanId).toBe(named('RunPodSandbox')?.spanId);
  expect(named('vm.clone')?.parentSpanId).toBe(named('claim')?.spanId);
  expect(named('first log line')?.parentSpanId).toBe(named('StartContainer')?.spanId);
  const begin = Number(named('RunPodSandbox')?.startTimeUnixNano) / 1e6;
  expect(begin).toBeGreaterThan(Date.now() - 120_000);
  await node.removePod(pod);
});

test('a request that fails is exported with its error', async () => {
  const config = { linux: { sysctls: { 'kernel.nothing_such': '1' } } };
  await expect(node.runPod({ name: 'refused', config })).rejects.toThrow('nothing_such');
  const failed = await collector.spanWith(({ status }) => status?.message.includes('nothing_such') === true);
  expect(failed.name).toBe('RunPodSandbox');
});

test('a caller that traces its own work finds the request below its own span', async () => {
  const config = {
    metadata: { name: 'called', uid: 'called', namespace: 'test', attempt: 0 },
    log_directory: node.daemon.scratch,
    linux: {},
  };
  const file = join(folder, 'called.json');
  await writeFile(file, JSON.stringify(config));
  // Nobody takes crictl's own spans: it only has to tell us of them.
  const tracing = ['--enable-tracing', '--tracing-endpoint', '127.0.0.1:1'];
  const { exitCode, stdout, stderr } = await node.daemon.crictl.try(...tracing, 'runp', file);
  expect([exitCode, stdout, exitCode === 0 ? '' : stderr]).toEqual([0, expect.stringMatching(/^[0-9a-f]{64}$/), '']);
  const id = stdout.trim();
  const span = await collector.spanWith(
    ({ name, attributes }) => name === 'RunPodSandbox' && attributes.some(({ value }) => value.stringValue === id),
  );
  expect(span.parentSpanId).toMatch(/^[0-9a-f]{16}$/);
  expect(span.traceId).not.toBe(id.slice(0, 32));
  await node.removePod({ id, config });
});
