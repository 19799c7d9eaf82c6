import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { script, TestCluster } from './cluster.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
  await cluster.createPod('streams', {
    restartPolicy: 'Never',
    containers: [
      script('main', 'httpd -f -p 127.0.0.1:8080 -h /www'),
      script('echo', 'while read -r line; do echo "heard $line"; done; echo bye', {
        stdin: true,
        stdinOnce: true,
      }),
    ],
  });
  await cluster.waitReady('streams');
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

test('kubectl exec: output, errors, standard input, exit code', async () => {
  const exec = ['exec', '-i', 'streams', '-c', 'main', '--', 'sh', '-c'];
  const ended = await cluster.plane.tryKubectl([...exec, 'cat; echo oops >&2; exit 7'], 'to be read');
  expect(ended.stdout).toBe('to be read');
  expect(ended.stderr).toMatch(/^oops\n/);
  expect(ended.exitCode).toBe(7);
});

test('kubectl cp: a file there and back', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kelyfos-cp-'));
  try {
    const data = randomBytes(5_000_000);
    await writeFile(join(folder, 'there'), data);
    await cluster.plane.kubectl(['cp', '-c', 'main', join(folder, 'there'), 'streams:/tmp/file']);
    const sum = createHash('sha256').update(data).digest('hex');
    expect(await cluster.sh('streams', 'sha256sum /tmp/file', 'main')).toMatch(sum);
    await cluster.plane.kubectl(['cp', '-c', 'main', 'streams:/tmp/file', join(folder, 'back')]);
    expect(data.equals(await readFile(join(folder, 'back')))).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('kubectl attach: standard input to its end, and all that is said', async () => {
  const ended = await cluster.plane.tryKubectl(['attach', '-i', 'streams', '-c', 'echo'], 'one\ntwo\n');
  expect(ended.stdout).toContain('heard one\nheard two\nbye\n');
});

test('kubectl port-forward: a listener on the loopback of the guest', async () => {
  const forward = await cluster.plane.startKubectl('port-forward', ['port-forward', 'pod/streams', ':8080']);
  try {
    const [, port] = await forward.waitForLog(/Forwarding from 127\.0\.0\.1:(\d+) -> 8080/, 30_000);
    for (let time = 0; time < 3; time++) {
      const response = await fetch(`http://127.0.0.1:${String(port)}/index.html`);
      expect(await response.text()).toBe('<p>It works.</p>\n');
    }
  } finally {
    await forward.stop();
  }
});
