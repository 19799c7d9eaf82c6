import type { Outgoing } from '../cri/call.ts';
import type { StreamCalls, UnaryCalls } from '../cri/calls.ts';
import type {
  Container,
  ContainerEventResponse,
  ContainerStats,
  CreateContainerRequest,
  MetricDescriptor,
  PodSandbox,
  PodSandboxConfig,
  PodSandboxMetrics,
  PodSandboxStats,
} from '../cri/gen/cri-types.ts';
import { AppError, messageOf } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { type ConnectionLimits, HostConnection, type HostState } from './connection.ts';
import type { CriCalls } from './cri-calls.ts';
import { type HostPod, HostPods } from './host-pods.ts';
import { KnownPodsFile } from './known-pods.ts';
import { containerLabels, isOwned, ownerLabel, podLabels, publicId } from './marks.ts';
import { type Known, shown } from './shown.ts';

export interface HostRuntimeOptions {
  readonly calls: CriCalls;
  /** For messages. */
  readonly endpoint: string;
  /** Whose pods these are among all of that runtime: the root folder of this kelyfos. */
  readonly owner: string;
  /** Where the last list is kept. */
  readonly file: string;
  /** Its runtime handler for pods that ask for a namespace of the host; "" is its default one. */
  readonly handler: string;
  /** Our handlers that stand for it, and which of its own each one means. */
  readonly handlers: ReadonlyMap<string, string>;
  /** Our images: they are the same. */
  readonly images: Known;
  readonly log: Log;
  readonly limits?: ConnectionLimits;
}

/** The other CRI runtime of the node, as far as it serves our pods. Ids and labels are those our clients know. */
export class HostRuntime {
  readonly endpoint: string;
  readonly handlers: ReadonlyMap<string, string>;
  readonly #options: HostRuntimeOptions;
  readonly #connection: HostConnection;
  readonly #file: KnownPodsFile;
  readonly #pods: HostPods;
  #config: Outgoing<UnaryCalls['UpdateRuntimeConfig'][0]> | undefined;

  private constructor(options: HostRuntimeOptions) {
    this.endpoint = options.endpoint;
    this.handlers = options.handlers;
    this.#options = options;
    this.#connection = new HostConnection(options.calls, options.endpoint, options.log, options.limits);
    this.#file = new KnownPodsFile(options.file, options.log);
    this.#pods = new HostPods(this.#connection, options.owner, this.#file);
    this.#connection.onReturn = () => {
      this.#configureAgain();
    };
  }

  static async open(options: HostRuntimeOptions): Promise<HostRuntime> {
    const runtime = new HostRuntime(options);
    await runtime.#pods.load();
    return runtime;
  }

  async close(): Promise<void> {
    this.#connection.close();
    await this.#file.settled();
  }

  // ---------------------------------------------------------------- pods and containers

  /** RunPodSandbox there; the id. `id`: what the pod is called instead of what it would be there. */
  async run(config: PodSandboxConfig, handler: string, id: string | undefined, signal: AbortSignal): Promise<string> {
    const { owner, handlers, handler: fallback } = this.#options;
    const labels = podLabels(config.labels, owner, handler, id);
    const { pod_sandbox_id: hostId } = await this.#connection.call(
      'RunPodSandbox',
      { config: { ...config, labels }, runtime_handler: handlers.get(handler) ?? fallback },
      signal,
    );
    this.#pods.remember(hostId, id ?? hostId);
    await this.#learn();
    return id ?? hostId;
  }

  async create(pod: HostPod, request: CreateContainerRequest, signal: AbortSignal): Promise<string> {
    const { owner } = this.#options;
    const { config } = request;
    const podId = pod.id === pod.hostId ? undefined : pod.id;
    const { container_id: id } = await this.#connection.call(
      'CreateContainer',
      {
        ...request,
        pod_sandbox_id: pod.hostId,
        config: config === null ? {} : { ...config, labels: containerLabels(config.labels, owner, podId) },
      },
      signal,
    );
    this.#pods.remember(id, id);
    await this.#learn();
    return id;
  }

  /** Any other call about one thing; ids in the request are those of the host runtime. */
  async call<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
    signal: AbortSignal,
  ): Promise<UnaryCalls[Name][1]> {
    return this.#shown(await this.#connection.call(name, request, signal));
  }

  findSandbox(prefix: string): Promise<HostPod | undefined> {
    return this.#pods.findSandbox(prefix);
  }

  findContainer(prefix: string): Promise<string | undefined> {
    return this.#pods.findContainer(prefix);
  }

  /** As it is now; as it was when it last answered while it does not. Within about a second. */
  async sandboxes(): Promise<readonly PodSandbox[]> {
    return this.#shown((await this.#pods.list()).sandboxes);
  }

  async containers(): Promise<readonly Container[]> {
    return this.#shown((await this.#pods.list()).containers);
  }

  // ---------------------------------------------------------------- figures: none while it is down

  async containerStats(): Promise<readonly ContainerStats[]> {
    const filter = { label_selector: ownerLabel(this.#options.owner) };
    const answer = await this.#figures('ListContainerStats', { filter });
    return this.#shown(answer?.stats ?? []);
  }

  async sandboxStats(): Promise<readonly PodSandboxStats[]> {
    const filter = { label_selector: ownerLabel(this.#options.owner) };
    const answer = await this.#figures('ListPodSandboxStats', { filter });
    // Each pod holds its containers, whose own marks say nothing about the pod.
    return this.#shown(answer?.stats ?? []);
  }

  async metrics(): Promise<readonly PodSandboxMetrics[]> {
    const { sandboxes } = await this.#pods.list();
    const ids = new Map(sandboxes.map((sandbox) => [sandbox.id, publicId(sandbox)]));
    const answer = await this.#figures('ListPodSandboxMetrics', {});
    return (answer?.pod_metrics ?? []).flatMap((pod) => {
      const id = ids.get(pod.pod_sandbox_id);
      return id === undefined ? [] : [{ ...pod, pod_sandbox_id: id }];
    });
  }

  async metricDescriptors(): Promise<readonly MetricDescriptor[]> {
    return (await this.#figures('ListMetricDescriptors', {}))?.descriptors ?? [];
  }

  async fileSystems(): Promise<UnaryCalls['ImageFsInfo'][1] | undefined> {
    return this.#figures('ImageFsInfo', {});
  }

  // ---------------------------------------------------------------- events

  /** Those of our pods, over restarts of the host runtime. What happens while it is down shows in lists. */
  async *events(signal: AbortSignal): AsyncGenerator<ContainerEventResponse, void, undefined> {
    for await (const event of this.#connection.stream('GetContainerEvents', {}, signal)) {
      const ours = this.#ours(event);
      if (ours !== undefined) yield ours;
    }
  }

  #ours(event: StreamCalls['GetContainerEvents'][1]): ContainerEventResponse | undefined {
    const { pod_sandbox_status: pod, container_id: hostId } = event;
    if (pod !== null && isOwned(pod.labels, this.#options.owner)) this.#pods.remember(pod.id, publicId(pod));
    else if (this.#pods.nameOf(hostId) === undefined) return undefined;
    return { ...this.#shown(event), container_id: this.#pods.nameOf(hostId) ?? hostId };
  }

  // ---------------------------------------------------------------- the runtime itself

  /** Asks, unless it is known to be down. */
  async state(): Promise<HostState> {
    try {
      await this.#connection.ask('Version', { version: '0.1.0' });
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
    }
    return this.#connection.state;
  }

  /** Its own answer to Status, verbose or not; undefined while it is down. */
  async status(verbose: boolean): Promise<UnaryCalls['Status'][1] | undefined> {
    return this.#figures('Status', { verbose });
  }

  /** Now if it is there, and again each time it comes back. */
  async configure(config: Outgoing<UnaryCalls['UpdateRuntimeConfig'][0]>): Promise<void> {
    this.#config = config;
    await this.#connection.ask('UpdateRuntimeConfig', config);
  }

  #configureAgain(): void {
    if (this.#config === undefined) return;
    this.#connection.ask('UpdateRuntimeConfig', this.#config).catch((error: unknown) => {
      this.#options.log.warn({ error: messageOf(error) }, 'the host runtime did not take the pod network');
    });
  }

  /** What was just made is known from here on, also to the next daemon and while the host runtime is down. */
  async #learn(): Promise<void> {
    await this.#pods.list();
    await this.#file.settled();
  }

  #shown<T>(message: T): T {
    return shown(message, this.#options.images);
  }

  async #figures<Name extends keyof UnaryCalls>(
    name: Name,
    request: Outgoing<UnaryCalls[Name][0]>,
  ): Promise<UnaryCalls[Name][1] | undefined> {
    try {
      return await this.#connection.ask(name, request);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      this.#options.log.debug({ error: error.message }, `${name} of the host runtime failed`);
      return undefined;
    }
  }
}
