/** What the common labels say of a container. */
export interface LabelledContainer {
  readonly id: string;
  readonly name: string;
  readonly image: string;
}

export interface LabelledPod {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
}

/** The name that cadvisor and its readers have for what belongs to a pod and to none of its containers. */
const podName = 'POD';

/** Values of the common labels, in the order of their keys. */
export function commonValues(pod: LabelledPod, container?: LabelledContainer): readonly string[] {
  const { id, name, image } = container ?? { id: pod.id, name: podName, image: '' };
  return [id, name, image, name, pod.name, pod.namespace];
}

/** As the pod's specification has it: what a kubelet asks for instead is an id. */
export function imageLabel(userSpecified: string | undefined, image: string | undefined): string {
  return userSpecified === undefined || userSpecified === '' ? (image ?? '') : userSpecified;
}
