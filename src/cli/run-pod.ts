import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { CriClient, Message } from '../cri/client.ts';
import { CommandError } from './fail.ts';
import { followLog, type Output } from './follow-log.ts';
import { containerLogPath, type RunRequest } from './run-request.ts';

/** Marks the pods of one `kelyfos run`, so that it finds them again after a call that was cut off. */
const runLabel = 'io.kelyfos.run';

const pollMs = 25;
/** Removing a pod must not hang the terminal for ever when the daemon does. */
const cleanupTimeoutMs = 60_000;

/** Codes that shells use for a program that cannot be run, and one that is not there. */
const cannotRun = 126;
const notFound = 127;
/** What timeout(1) ends with. */
const timedOut = 124;

/** One container in one pod of its own, from the pull to the last trace. */
export class PodRun {
  readonly #client: CriClient;
  readonly #request: RunRequest;
  readonly #output: Output;
  readonly #progress: (text: string) => void;
  readonly #mark = randomBytes(8).toString('hex');
  /** From here on there may be a pod of ours. */
  #asked = false;

  constructor(client: CriClient, request: RunRequest, output: Output, progress: (text: string) => void) {
    this.#client = client;
    this.#request = request;
    this.#output = output;
    this.#progress = progress;
  }

  /** The exit code of the container. With `signal` the work stops where it is; nothing stays behind either way. */
  async run(signal: AbortSignal): Promise<number> {
    const logDirectory = await mkdtemp(join(tmpdir(), 'kelyfos-run-'));
    try {
      const imageRef = await this.#image(signal);
      return await this.#container(imageRef, logDirectory, signal);
    } finally {
      await rm(logDirectory, { recursive: true, force: true });
      if (this.#asked) await this.#removePods();
    }
  }

  #call(rpc: string, request: object, signal: AbortSignal): Promise<Message> {
    return this.#client.untyped(rpc, request, { signal });
  }

  async #image(signal: AbortSignal): Promise<string> {
    const { image, pull } = this.#request;
    if (pull !== 'always') {
      const found = await this.#call('ImageStatus', { image: { image } }, signal);
      if (found['image'] !== null) return (found['image'] as { readonly id: string }).id;
      if (pull === 'never') throw new CommandError(`image "${image}" is not here, and --pull is never`);
    }
    this.#progress(`pulling ${image}`);
    return (await this.#call('PullImage', { image: { image } }, signal))['image_ref'] as string;
  }

  async #container(imageRef: string, logDirectory: string, signal: AbortSignal): Promise<number> {
    this.#progress('starting a virtual machine');
    const metadata = { name: `run-${this.#mark.slice(0, 8)}`, namespace: 'default', uid: randomUUID(), attempt: 0 };
    const config = this.#request.sandboxConfig(metadata, logDirectory) as { readonly labels: Record<string, string> };
    const sandboxConfig = { ...config, labels: { ...config.labels, [runLabel]: this.#mark } };
    this.#asked = true;
    const { pod_sandbox_id: pod } = await this.#call(
      'RunPodSandbox',
      { config: sandboxConfig, runtime_handler: this.#request.handler },
      signal,
    );
    const { container_id: container } = await this.#call(
      'CreateContainer',
      { pod_sandbox_id: pod, config: this.#request.containerConfig(imageRef), sandbox_config: sandboxConfig },
      signal,
    );
    const id = container as string;
    await this.#call('StartContainer', { container_id: id }, signal).catch((error: unknown) => {
      throw startError(error);
    });
    return this.#follow(id, join(logDirectory, containerLogPath), signal);
  }

  /** Copies the output while the container runs; a time-out or a signal stops it in good order. */
  async #follow(id: string, log: string, signal: AbortSignal): Promise<number> {
    let exitCode: number | undefined;
    const copied = followLog(log, this.#output, () => exitCode !== undefined);
    // Handled below; without this a failure before then would end the process.
    copied.catch(() => undefined);
    const { timeoutMs } = this.#request;
    const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
    const stop = late === undefined ? signal : AbortSignal.any([signal, late]);
    let stopping: Promise<unknown> | undefined;
    while (exitCode === undefined) {
      if (stop.aborted) {
        stopping ??= this.#client.untyped('StopContainer', { container_id: id, timeout: this.#request.stopSeconds });
        await stopping;
      }
      const found = (await this.#client.untyped('ContainerStatus', { container_id: id }))['status'] as {
        readonly state: string;
        readonly exit_code: number;
      };
      if (found.state === 'CONTAINER_EXITED') exitCode = found.exit_code;
      else await delay(pollMs);
    }
    await copied;
    signal.throwIfAborted();
    return late?.aborted === true ? timedOut : exitCode;
  }

  /** By label and not by id: a call that was cut off may have made a pod that we were not told of. */
  async #removePods(): Promise<void> {
    const filter = { label_selector: { [runLabel]: this.#mark } };
    const { items } = await this.#client.untyped('ListPodSandbox', { filter }, { timeoutMs: cleanupTimeoutMs });
    for (const { id } of items as readonly { readonly id: string }[]) {
      await this.#client.untyped('StopPodSandbox', { pod_sandbox_id: id }, { timeoutMs: cleanupTimeoutMs });
      await this.#client.untyped('RemovePodSandbox', { pod_sandbox_id: id }, { timeoutMs: cleanupTimeoutMs });
    }
  }
}

function startError(error: unknown): unknown {
  if (!(error instanceof Error) || !('details' in error) || !('code' in error)) return error;
  if (error.code !== status.FAILED_PRECONDITION) return error;
  const details = String(error.details);
  if (/no such file|not found/i.test(details)) return new CommandError(details, notFound, { cause: error });
  return new CommandError(details, cannotRun, { cause: error });
}
