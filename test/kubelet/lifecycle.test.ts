import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { condition, script, statusOf, TestCluster } from './cluster.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

const stays = 'trap "exit 0" TERM; while :; do sleep 1000 & wait; done';

test('init containers run one after the other, beside a sidecar, before the rest', async () => {
  const mounts = { volumeMounts: [{ name: 'work', mountPath: '/work' }] };
  await cluster.createPod('init', {
    restartPolicy: 'Never',
    volumes: [{ name: 'work', emptyDir: {} }],
    initContainers: [
      script('first', 'sleep 1; echo first >> /work/order', mounts),
      script('sidecar', `echo sidecar >> /work/order; ${stays}`, { ...mounts, restartPolicy: 'Always' }),
      script('second', 'echo second >> /work/order', mounts),
    ],
    containers: [script('main', 'echo main >> /work/order; cat /work/order > /dev/termination-log', mounts)],
  });
  const pod = await cluster.waitForPhase('init', 'Succeeded');
  expect(statusOf(pod).state.terminated).toMatchObject({
    exitCode: 0,
    reason: 'Completed',
    message: 'first\nsidecar\nsecond\nmain\n',
  });
  expect(statusOf(pod, 'first').state.terminated).toMatchObject({ exitCode: 0, reason: 'Completed' });
  expect(statusOf(pod, 'sidecar').state.terminated?.exitCode).toBe(0);
});

test('a failed pod says how it ended; the log stands in for a message that was not written', async () => {
  await cluster.createPod('fails', {
    restartPolicy: 'Never',
    containers: [
      script('main', 'echo broken pipe dream; exit 7', { terminationMessagePolicy: 'FallbackToLogsOnError' }),
      { name: 'nothing', command: ['/bin/does-not-exist'] },
    ],
  });
  const pod = await cluster.waitForPhase('fails', 'Failed');
  expect(statusOf(pod, 'main').state.terminated).toMatchObject({
    exitCode: 7,
    reason: 'Error',
    message: 'broken pipe dream\n',
  });
  expect(statusOf(pod, 'nothing').state.terminated).toMatchObject({ exitCode: 128, reason: 'StartError' });
});

test('a container that ends is started again, later and later', async () => {
  await cluster.createPod('restarts', {
    restartPolicy: 'OnFailure',
    volumes: [{ name: 'work', emptyDir: {} }],
    containers: [
      script('main', 'echo x >> /work/runs; [ $(wc -l < /work/runs) -ge 3 ]', {
        volumeMounts: [{ name: 'work', mountPath: '/work' }],
      }),
    ],
  });
  await cluster.waitForPod(
    'restarts',
    'backs off',
    ({ status }) => status.containerStatuses?.[0]?.state.waiting?.reason === 'CrashLoopBackOff',
  );
  const pod = await cluster.waitForPhase('restarts', 'Succeeded');
  expect(statusOf(pod)).toMatchObject({ restartCount: 2, lastState: { terminated: { exitCode: 1 } } });
});

test('probes by exec, HTTP, TCP decide what is started, ready, and restarted', async () => {
  const server = 'httpd -p 8080 -h /www; nc -ll -p 9090 -e true & ';
  const often = { periodSeconds: 1, timeoutSeconds: 5 };
  await cluster.createPod('probes', {
    terminationGracePeriodSeconds: 1,
    containers: [
      script('main', `sleep 2; touch /started; ${server} ${stays}`, {
        startupProbe: { exec: { command: ['test', '-e', '/started'] }, failureThreshold: 100, ...often },
        readinessProbe: { tcpSocket: { port: 9090 }, ...often },
        livenessProbe: { httpGet: { path: '/index.html', port: 8080 }, failureThreshold: 2, ...often },
      }),
      script('gated', stays, { readinessProbe: { exec: { command: ['test', '-e', '/ready'] }, ...often } }),
    ],
  });
  const started = await cluster.waitForPod('probes', 'has its first container ready', ({ status }) =>
    (status.containerStatuses ?? []).some(({ name, ready }) => name === 'main' && ready),
  );
  expect(condition(started.status, 'Ready')).toBe(false);
  await cluster.sh('probes', 'touch /ready', 'gated');
  const ready = await cluster.waitReady('probes');
  expect(statusOf(ready, 'main')).toMatchObject({ restartCount: 0, started: true });
  await cluster.sh('probes', 'rm /www/index.html', 'main');
  const restarted = await cluster.waitForPod(
    'probes',
    'was restarted',
    (pod) => statusOf(pod, 'main').restartCount > 0,
  );
  expect(statusOf(restarted, 'gated').restartCount).toBe(0);
});

test('a pod that is deleted gets its hook, its signal and its time', async () => {
  await cluster.createPod('deleted', {
    terminationGracePeriodSeconds: 30,
    volumes: [{ name: 'host', hostPath: { path: cluster.kubelet.folder } }],
    containers: [
      script(
        'main',
        'trap "echo signal >> /host/farewell; exit 0" TERM; touch /up; while :; do sleep 1000 & wait; done',
        {
          volumeMounts: [{ name: 'host', mountPath: '/host' }],
          readinessProbe: { exec: { command: ['test', '-e', '/up'] }, periodSeconds: 1 },
          lifecycle: { preStop: { exec: { command: ['sh', '-c', 'echo hook >> /host/farewell'] } } },
        },
      ),
    ],
  });
  await cluster.waitReady('deleted');
  await cluster.deletePod('deleted');
  expect(await readFile(`${cluster.kubelet.folder}/farewell`, 'utf8')).toBe('hook\nsignal\n');
});

test('a process namespace that is shared, and a static pod', async () => {
  const { metadata, ...rest } = cluster.podManifest('static', {
    shareProcessNamespace: true,
    containers: [script('one', `exec sleep 12345`), script('two', stays)],
  }) as { readonly metadata: object; readonly spec: { readonly nodeName: string } };
  const { nodeName: _bound, ...spec } = rest.spec;
  await cluster.kubelet.writeManifest('static', { ...rest, metadata: { ...metadata, namespace: 'default' }, spec });
  await cluster.until('the mirror pod is there', async () =>
    (await cluster.pods()).some(({ metadata: { name } }) => name === 'static-node'),
  );
  await cluster.waitReady('static-node');
  expect(await cluster.sh('static-node', 'ps', 'two')).toContain('sleep 12345');
  await cluster.kubelet.removeManifest('static');
  await cluster.until('the static pod is gone', async () =>
    (await cluster.pods()).every(({ metadata: { name } }) => name !== 'static-node'),
  );
});
