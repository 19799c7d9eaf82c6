import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { script, TestCluster } from './cluster.ts';

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

function configMap(name: string, data: Readonly<Record<string, string>>): Readonly<Record<string, unknown>> {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data };
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('ConfigMaps and Secrets as files and variables, and as files they follow', async () => {
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'secret' } };
  await cluster.apply(configMap('settings', { colour: 'red', shape: 'round' }), {
    ...secret,
    data: { password: base64('hush') },
  });
  await cluster.createPod('config', {
    volumes: [
      { name: 'settings', configMap: { name: 'settings' } },
      { name: 'secret', secret: { secretName: 'secret', defaultMode: 0o400 } },
    ],
    containers: [
      script('main', 'exec sleep 10000', {
        env: [{ name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'colour' } } }],
        envFrom: [{ secretRef: { name: 'secret' } }],
        volumeMounts: [
          { name: 'settings', mountPath: '/settings' },
          { name: 'settings', mountPath: '/single', subPath: 'shape' },
          { name: 'secret', mountPath: '/secret', readOnly: true },
        ],
      }),
    ],
  });
  await cluster.waitReady('config');
  expect(await cluster.sh('config', 'echo $COLOUR $password; cat /settings/colour /single /secret/password')).toBe(
    'red hush\nredroundhush',
  );
  expect(await cluster.sh('config', 'stat -L -c %a /secret/password; touch /secret/x 2>&1 || true')).toMatch(
    /^400\n.*Read-only file system/,
  );
  await cluster.apply(configMap('settings', { colour: 'blue', shape: 'square' }), {
    ...secret,
    data: { password: base64('hush hush') },
  });
  await cluster.until(
    'the files have followed',
    async () => (await cluster.sh('config', 'cat /settings/colour /secret/password')) === 'bluehush hush',
  );
  // What is mounted by its sub path stays.
  expect(await cluster.sh('config', 'cat /single; echo $COLOUR')).toBe('roundred');
});

test('an emptyDir, in memory too, is one for the containers of a pod, with the group of the pod', async () => {
  await cluster.createPod('scratch', {
    securityContext: { runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000 },
    volumes: [
      { name: 'disk', emptyDir: {} },
      { name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '16Mi' } },
    ],
    containers: ['one', 'two'].map((name) =>
      script(name, 'exec sleep 10000', {
        volumeMounts: [
          { name: 'disk', mountPath: '/disk' },
          { name: 'memory', mountPath: '/memory' },
        ],
      }),
    ),
  });
  await cluster.waitReady('scratch');
  await cluster.sh('scratch', 'echo a > /disk/file; echo b > /memory/file', 'one');
  expect(await cluster.sh('scratch', 'cat /disk/file /memory/file; stat -c %u:%g /disk/file', 'two')).toBe(
    'a\nb\n1000:2000',
  );
});

test('projected volumes: downward API, service account token, ConfigMap', async () => {
  await cluster.apply(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot' } },
    configMap('projected', { key: 'value' }),
  );
  const sources = [
    { configMap: { name: 'projected' } },
    { serviceAccountToken: { path: 'token', expirationSeconds: 3600 } },
    {
      downwardAPI: {
        items: [
          { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
          { path: 'memory', resourceFieldRef: { containerName: 'main', resource: 'limits.memory' } },
        ],
      },
    },
  ];
  await cluster.createPod(
    'projected',
    {
      serviceAccountName: 'robot',
      volumes: [{ name: 'all', projected: { sources } }],
      containers: [
        script('main', 'exec sleep 10000', {
          resources: { limits: { memory: '64Mi' } },
          env: [{ name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } }],
          volumeMounts: [{ name: 'all', mountPath: '/all' }],
        }),
      ],
    },
    { labels: { step: 'one' } },
  );
  const pod = await cluster.waitReady('projected');
  expect(await cluster.sh('projected', 'cat /all/key /all/memory; echo; cat /all/labels; echo; echo $POD_IP')).toBe(
    `value67108864\nstep="one"\n${pod.status.podIP ?? ''}`,
  );
  const token = await cluster.sh('projected', 'cat /all/token');
  const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { readonly sub: string };
  expect(claims.sub).toBe('system:serviceaccount:default:robot');
  await cluster.plane.kubectl(['label', 'pod', 'projected', 'step=two', '--overwrite']);
  await cluster.until('the label has followed', async () =>
    (await cluster.sh('projected', 'cat /all/labels')).includes('step="two"'),
  );
});

test('folders and files of the host', async () => {
  const folder = join(cluster.kubelet.folder, 'data');
  await mkdir(folder);
  await writeFile(join(folder, 'file'), 'from the host\n');
  await cluster.createPod('host', {
    volumes: [
      { name: 'folder', hostPath: { path: folder, type: 'Directory' } },
      { name: 'file', hostPath: { path: join(folder, 'file'), type: 'File' } },
      { name: 'made', hostPath: { path: join(folder, 'made'), type: 'DirectoryOrCreate' } },
    ],
    containers: [
      script('main', 'exec sleep 10000', {
        volumeMounts: [
          { name: 'folder', mountPath: '/folder' },
          { name: 'file', mountPath: '/file', readOnly: true },
          { name: 'made', mountPath: '/made', subPath: 'below' },
        ],
      }),
    ],
  });
  await cluster.waitReady('host');
  expect(await cluster.sh('host', 'cat /file; echo answer > /folder/answer; echo deep > /made/deep')).toBe(
    'from the host',
  );
  expect(await readFile(join(folder, 'answer'), 'utf8')).toBe('answer\n');
  expect(await readFile(join(folder, 'made/below/deep'), 'utf8')).toBe('deep\n');
  await writeFile(join(folder, 'later'), 'later\n');
  expect(await cluster.sh('host', 'cat /folder/later')).toBe('later');
});
