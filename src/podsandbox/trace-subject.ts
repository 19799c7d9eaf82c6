import type { ContainerConfig, SandboxConfig } from './model.ts';
import type { TraceSubject } from './trace-model.ts';

/** Names of attributes: https://opentelemetry.io/docs/specs/semconv/resource/k8s/. */
function podAttributes({ metadata }: SandboxConfig): Readonly<Record<string, string>> {
  return { 'k8s.pod.name': metadata.name, 'k8s.namespace.name': metadata.namespace, 'k8s.pod.uid': metadata.uid };
}

export function sandboxSubject(id: string, config: SandboxConfig): TraceSubject {
  return { id, sandboxId: id, attributes: podAttributes(config) };
}

export function containerSubject(
  id: string,
  sandbox: { readonly id: string; readonly config: SandboxConfig },
  config: ContainerConfig,
): TraceSubject {
  const { name, attempt } = config.metadata;
  return {
    id,
    sandboxId: sandbox.id,
    attributes: {
      ...podAttributes(sandbox.config),
      'container.id': id,
      'k8s.container.name': name,
      'k8s.container.restart_count': String(attempt),
      'container.image.name': config.userSpecifiedImage === '' ? config.image : config.userSpecifiedImage,
    },
  };
}
