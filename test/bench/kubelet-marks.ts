import type * as cri from '../../src/cri/gen/cri-types.ts';

interface Marks {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Labels and annotations of a pod as a kubelet of 1.36 writes them for a pod of a deployment: they are most of what lists hold. */
export function podMarks({ name, namespace, uid }: cri.PodSandboxMetadata): Marks {
  return {
    labels: {
      app: 'web',
      'pod-template-hash': '6c7f4f9b8d',
      'io.kubernetes.pod.name': name,
      'io.kubernetes.pod.namespace': namespace,
      'io.kubernetes.pod.uid': uid,
    },
    annotations: {
      'kubernetes.io/config.seen': '2026-01-01T00:00:00.000000000Z',
      'kubernetes.io/config.source': 'api',
    },
  };
}

/** The same of a container of such a pod. */
export function containerMarks(container: string, { name, namespace, uid }: cri.PodSandboxMetadata): Marks {
  return {
    labels: {
      'io.kubernetes.container.name': container,
      'io.kubernetes.pod.name': name,
      'io.kubernetes.pod.namespace': namespace,
      'io.kubernetes.pod.uid': uid,
    },
    annotations: {
      'io.kubernetes.container.hash': '5e1f0c4d',
      'io.kubernetes.container.ports': '[{"name":"http","containerPort":8080,"protocol":"TCP"}]',
      'io.kubernetes.container.restartCount': '0',
      'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      'io.kubernetes.container.terminationMessagePolicy': 'File',
      'io.kubernetes.pod.terminationGracePeriod': '30',
    },
  };
}
