import { afterEach, expect, test } from '@jest/globals';
import pino from 'pino';
import { OtlpExporter } from './otlp-exporter.ts';
import type { Request, Subject } from './spans.ts';

const subject: Subject = {
  id: 'c'.repeat(64),
  sandboxId: `${'a'.repeat(32)}${'b'.repeat(32)}`,
  attributes: { 'k8s.pod.name': 'web', empty: '' },
};
const trace: Request = {
  request: 'RunPodSandbox',
  startedAt: 1_700_000_000_000_000_000n,
  ms: 10.25,
  steps: [
    { name: 'claim', startMs: 1.5, ms: 4, depth: 0 },
    { name: 'vm.resume', startMs: 2, ms: 3, depth: 1 },
    { name: 'network', startMs: 5, ms: 5, depth: 0 },
  ],
};

interface Sent {
  readonly url: string;
  readonly spans: readonly Record<string, unknown>[];
  readonly resource: unknown;
}

interface Rig {
  readonly exporter: OtlpExporter;
  readonly sent: Sent[];
  readonly lines: { readonly msg: string; readonly droppedSpans?: number }[];
  readonly sleeps: number[];
  /** What the collector says next; then 200. */
  readonly answers: (Response | Error)[];
}

let running: OtlpExporter | undefined;
afterEach(async () => {
  await running?.close(0);
});

function rig(endpoint = 'http://collector:4318'): Rig {
  const sent: Sent[] = [];
  const lines: Rig['lines'] = [];
  const sleeps: number[] = [];
  const answers: (Response | Error)[] = [];
  const exporter = new OtlpExporter({
    endpoint,
    version: '1.2.3',
    hostName: 'node1',
    log: pino({}, { write: (line: string) => lines.push(JSON.parse(line) as Rig['lines'][number]) }),
    fetch: async (url, init) => {
      const { resourceSpans } = JSON.parse(init?.body as string) as {
        resourceSpans: [{ resource: unknown; scopeSpans: [{ spans: Sent['spans'] }] }];
      };
      sent.push({
        url: url as string,
        spans: resourceSpans[0].scopeSpans[0].spans,
        resource: resourceSpans[0].resource,
      });
      const answer = answers.shift() ?? new Response('{}');
      if (answer instanceof Error) throw answer;
      return answer;
    },
    sleep: async (ms) => {
      sleeps.push(ms);
      await new Promise(setImmediate);
    },
  });
  running = exporter;
  return { exporter, sent, lines, sleeps, answers };
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn > 1_000) throw new Error('never');
    await new Promise(setImmediate);
  }
}

test('a request and its steps are spans of one trace, each below what it is part of', async () => {
  const { exporter, sent } = rig();
  exporter.ended(subject, trace, undefined);
  await until(() => sent.length === 1);
  expect(sent[0]?.url).toBe('http://collector:4318/v1/traces');
  expect(sent[0]?.resource).toEqual({
    attributes: [
      { key: 'service.name', value: { stringValue: 'kelyfos' } },
      { key: 'service.version', value: { stringValue: '1.2.3' } },
      { key: 'host.name', value: { stringValue: 'node1' } },
    ],
  });
  const [root, claim, resume, network] = sent[0]?.spans ?? [];
  expect(root).toMatchObject({
    traceId: 'a'.repeat(32),
    spanId: expect.stringMatching(/^[0-9a-f]{16}$/),
    name: 'RunPodSandbox',
    kind: 2,
    startTimeUnixNano: '1700000000000000000',
    endTimeUnixNano: '1700000000010250000',
    attributes: expect.arrayContaining([{ key: 'k8s.pod.name', value: { stringValue: 'web' } }]),
  });
  expect(root).not.toHaveProperty('parentSpanId');
  expect(root).not.toHaveProperty('status');
  expect(claim).toMatchObject({
    traceId: 'a'.repeat(32),
    parentSpanId: root?.['spanId'],
    startTimeUnixNano: '1700000000001500000',
    endTimeUnixNano: '1700000000005500000',
  });
  expect(resume).toMatchObject({ name: 'vm.resume', parentSpanId: claim?.['spanId'] });
  expect(network).toMatchObject({ name: 'network', parentSpanId: root?.['spanId'] });
});

test('a caller who traces his own work has the request in his trace', async () => {
  const { exporter, sent } = rig();
  const parent = { traceId: 'f'.repeat(32), spanId: 'e'.repeat(16) };
  exporter.ended({ ...subject, parent }, trace, undefined);
  exporter.later({ ...subject, parent }, trace, { name: 'first log line', startMs: 0, ms: 40, depth: 0 });
  await until(() => sent.length === 1);
  const spans = sent[0]?.spans ?? [];
  expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([parent.traceId]));
  expect(spans[0]).toMatchObject({ name: 'RunPodSandbox', parentSpanId: parent.spanId });
  expect(spans.at(-1)).toMatchObject({ parentSpanId: spans[0]?.['spanId'] });
});

test('a step that ends later belongs to its request, and a failure is told', async () => {
  const { exporter, sent } = rig('https://collector/custom/path');
  exporter.ended(subject, { ...trace, request: 'StartContainer' }, 'no such program');
  exporter.later(
    subject,
    { ...trace, request: 'StartContainer' },
    { name: 'first log line', startMs: 0, ms: 40, depth: 0 },
  );
  await until(() => sent.length === 1);
  expect(sent[0]?.url).toBe('https://collector/custom/path');
  const spans = sent[0]?.spans ?? [];
  expect(spans[0]).toMatchObject({ status: { code: 2, message: 'no such program' } });
  expect(spans.at(-1)).toMatchObject({ name: 'first log line', parentSpanId: spans[0]?.['spanId'] });
});

test('a collector that is not there is told once, tried again ever more rarely, and gets everything in the end', async () => {
  const { exporter, sent, lines, sleeps, answers } = rig();
  answers.push(
    new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') }),
    new Response('busy', { status: 503 }),
    new Response('slow down', { status: 429, headers: { 'retry-after': '7' } }),
  );
  exporter.ended(subject, trace, undefined);
  await until(() => sent.length === 4 && lines.length === 2);
  expect(new Set(sent.map(({ spans }) => spans.length))).toEqual(new Set([4]));
  expect(sleeps).toEqual([1_000, 1_000, 2_000, 7_000]);
  expect(lines.map(({ msg }) => msg)).toEqual([
    'traces cannot be exported: http://collector:4318/v1/traces: fetch failed: connect ECONNREFUSED',
    'traces are exported again',
  ]);
});

test('what a collector refuses is not sent again', async () => {
  const { exporter, sent, lines, answers } = rig();
  answers.push(new Response('bad spans', { status: 400 }));
  exporter.ended(subject, trace, undefined);
  await until(() => lines.length === 1);
  expect(lines[0]?.msg).toBe('traces cannot be exported: http://collector:4318/v1/traces answers 400 bad spans');
  exporter.later(subject, trace, { name: 'first log line', startMs: 0, ms: 40, depth: 0 });
  await until(() => lines.length === 2);
  expect(sent.map(({ spans }) => spans.length)).toEqual([4, 1]);
});

test('the queue has an end: the oldest spans are dropped, and their number told', async () => {
  const { exporter, sent, lines, answers } = rig();
  answers.push(new Response('', { status: 503 }));
  for (let request = 0; request < 1_100; request += 1) exporter.ended(subject, trace, undefined);
  await until(() => lines.length === 2);
  expect(lines[1]).toMatchObject({ msg: 'traces are exported again', droppedSpans: 1_100 * 4 - 4_096 });
  await until(() => sent.reduce((sum, { spans }) => sum + spans.length, 0) === 4_096 + 512);
  expect(Math.max(...sent.map(({ spans }) => spans.length))).toBe(512);
});

test('closing sends what waits, but does not wait for a collector that hangs', async () => {
  const { exporter, sent } = rig();
  exporter.ended(subject, trace, undefined);
  await exporter.close(1_000);
  expect(sent).toHaveLength(1);
  exporter.ended(subject, trace, undefined);
  await exporter.close(1_000);
  expect(sent).toHaveLength(1);

  const hanging = new OtlpExporter({
    endpoint: 'http://collector',
    version: '1',
    hostName: 'node1',
    log: pino({ level: 'silent' }),
    fetch: (_url, init) =>
      new Promise((_resolve, reject) => {
        init?.signal?.addEventListener('abort', () => {
          reject(new Error('aborted'));
        });
      }),
  });
  hanging.ended(subject, trace, undefined);
  await hanging.close(10);
});
