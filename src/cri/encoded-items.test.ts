import { expect, test } from '@jest/globals';
import { withEncodedItems } from './encoded-items.ts';
import { criServices } from './proto.ts';

const { runtime } = criServices();
const encoded = withEncodedItems(runtime);

const pods = ['a', 'b'].map((id) => ({
  id,
  metadata: { name: `pod-${id}`, uid: 'u', namespace: 'n', attempt: 1 },
  state: 'SANDBOX_NOTREADY',
  created_at: '1700000000000000001',
  labels: { app: 'web', 'io.kubernetes.pod.name': id },
  annotations: {},
  runtime_handler: 'kelyfos',
}));

function serialize(rpc: string, message: object, from = encoded): Buffer {
  const method = from[rpc];
  if (method === undefined) throw new Error(`no ${rpc}`);
  return method.responseSerialize(message);
}

test('a list is the same bytes as it was, the first time and again, in any selection', () => {
  for (const items of [pods, pods, [pods[1]], [...pods].reverse(), []])
    expect(serialize('ListPodSandbox', { items })).toEqual(serialize('ListPodSandbox', { items }, runtime));
  const containers = pods.map(({ id }) => ({ id, pod_sandbox_id: id, state: 'CONTAINER_RUNNING', labels: { id } }));
  expect(serialize('ListContainers', { containers })).toEqual(serialize('ListContainers', { containers }, runtime));
});

test('an item is encoded once, a new one in its place anew', () => {
  let read = 0;
  const counted = {
    get id(): string {
      read += 1;
      return 'c';
    },
  };
  const first = serialize('ListPodSandbox', { items: [counted, pods[0]] });
  const once = read;
  expect(serialize('ListPodSandbox', { items: [counted, pods[0]] })).toEqual(first);
  expect(read).toBe(once);
  expect(once).toBeGreaterThan(0);
  expect(serialize('ListPodSandbox', { items: [{ id: 'd' }, pods[0]] })).not.toEqual(first);
});

test('other calls are left alone', () => {
  expect(encoded['Version']).toBe(runtime['Version']);
  expect(Object.keys(encoded)).toEqual(Object.keys(runtime));
});
