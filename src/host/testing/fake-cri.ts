import type { CriCalls } from '../cri-calls.ts';

interface Recorded {
  readonly name: string;
  readonly request: unknown;
}

/** As grpc-js rejects. */
export class FakeServiceError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: number, details: string) {
    super(`${String(code)}: ${details}`);
    this.code = code;
    this.details = details;
  }
}

/** Another CRI runtime: pods and containers with the labels they were made with. It can be down, or hang. */
export class FakeCri implements CriCalls {
  readonly calls: Recorded[] = [];
  readonly sandboxes: { id: string; labels: Record<string, string>; state: string }[] = [];
  readonly containers: { id: string; pod_sandbox_id: string; labels: Record<string, string>; state: string }[] = [];
  mode: 'up' | 'down' | 'hung' = 'up';
  /** What a call answers, or rejects with, instead of its usual. */
  readonly answers = new Map<string, unknown>();
  #ids = 0;

  async call<Response>(
    name: string,
    request: object,
    { timeoutMs, signal }: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Response> {
    this.calls.push({ name, request });
    if (this.mode === 'down') throw new FakeServiceError(14, 'No connection established');
    if (this.mode === 'hung') {
      const ends = timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)];
      await rejectedBy(AbortSignal.any([...ends, ...(signal === undefined ? [] : [signal])]));
    }
    const answer = this.answers.get(name);
    if (answer instanceof Error) throw answer;
    return (answer ?? this.#usual(name, request)) as Response;
  }

  // eslint-disable-next-line require-yield -- there are no events
  async *stream(): AsyncGenerator<never> {
    throw new FakeServiceError(12, 'unimplemented');
  }

  async connected(): Promise<void> {
    if (this.mode === 'down') throw new Error('no connection');
  }

  close(): void {
    this.mode = 'down';
  }

  #usual(name: string, request: object): object {
    const {
      filter,
      config,
      pod_sandbox_id: pod,
    } = request as {
      readonly filter?: { readonly label_selector: Record<string, string> };
      readonly config?: { readonly labels: Record<string, string> };
      readonly pod_sandbox_id?: string;
    };
    const selected = <T extends { readonly labels: Record<string, string> }>(items: readonly T[]): readonly T[] =>
      items.filter(({ labels }) => Object.entries(filter?.label_selector ?? {}).every(([k, v]) => labels[k] === v));
    this.#ids += 1;
    const id = String(this.#ids).padStart(64, 'f');
    const labels = config?.labels ?? {};
    switch (name) {
      case 'RunPodSandbox':
        this.sandboxes.push({ id, labels, state: 'SANDBOX_READY' });
        return { pod_sandbox_id: id };
      case 'CreateContainer':
        this.containers.push({ id, labels, pod_sandbox_id: pod ?? '', state: 'CONTAINER_CREATED' });
        return { container_id: id };
      case 'ListPodSandbox':
        return { items: selected(this.sandboxes) };
      case 'ListContainers':
        return { containers: selected(this.containers) };
      default:
        return {};
    }
  }
}

async function rejectedBy(signal: AbortSignal): Promise<never> {
  const turn = Promise.withResolvers<never>();
  const end = (): void => {
    turn.reject(new FakeServiceError(4, 'deadline exceeded'));
  };
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
  return turn.promise;
}
