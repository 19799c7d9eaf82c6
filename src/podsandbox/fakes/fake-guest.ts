import { create } from '@bufbuild/protobuf';
import {
  Channel,
  ConfigureSandboxResponseSchema,
  HelloResponseSchema,
  ContainerInfo_State,
  ContainerInfoSchema,
  CreateContainerResponseSchema,
  ExecResponseSchema,
  ExitSchema,
  OutputRecordSchema,
  PortForwardResponseSchema,
  StatsResponseSchema,
  type ContainerInfo,
  type ExecResponse,
  type Exit,
  type OutputRecord,
  type PortForwardResponse,
} from '../../agent/gen/agent/v1/agent_pb.js';
import { AppError } from '../../platform/errors.ts';
import type { Guest } from '../ports.ts';

interface FakeContainer {
  state: ContainerInfo_State;
  readonly argv: readonly string[];
  records: OutputRecord[];
  nextSequence: bigint;
  wake: PromiseWithResolvers<undefined>;
}

/**
 * Behaves like the guest agent: containers are created, started, write, exit; output is kept until it
 * is acknowledged and comes again after the connection was lost. Programs: "missing" cannot be
 * executed, "stubborn" ignores every signal but SIGKILL, anything else runs until it is signalled or
 * the test ends it.
 */
export class FakeGuest implements Guest {
  readonly containers = new Map<string, FakeContainer>();
  configured = 0;
  /** Disks whose image stays mounted for the next container. */
  readonly kept = new Set<string>();
  /** Limits in the order they came; those of the whole pod without an id. */
  readonly updates: Parameters<Guest['updateContainer']>[0][] = [];
  /** How far the guest's clock is off the host's. */
  clockOffNs = 0n;
  /** Until it resolves, statistics are not answered. */
  hung: PromiseWithResolvers<undefined> | undefined;
  asked = 0;
  #clock = 1_700_000_000_000_000_000n;
  #connection = new AbortController();
  readonly #failures = new Map<string, Error>();

  /** The next call of this name fails once. */
  failNext(call: keyof Guest, error: Error = new AppError('internal', `${call} fails as told`)): void {
    this.#failures.set(call, error);
  }

  /** Every stream fails as if the port had been closed; new ones work. */
  loseConnection(): void {
    const lost = this.#connection;
    this.#connection = new AbortController();
    lost.abort(new AppError('unavailable', 'connection lost'));
  }

  write(id: string, channel: 'stdout' | 'stderr', text: string): void {
    this.#append(id, { channel: channel === 'stderr' ? Channel.STDERR : Channel.STDOUT, data: Buffer.from(text) });
  }

  exit(id: string, exit: Partial<Pick<Exit, 'code' | 'signal' | 'oomKilled'>>): void {
    const container = this.#container(id);
    if (container.state === ContainerInfo_State.EXITED) return;
    container.state = ContainerInfo_State.EXITED;
    this.#append(id, { exit: create(ExitSchema, { ...exit, exitedAtNs: this.#now() }) });
  }

  hello: Guest['hello'] = () => Promise.resolve(create(HelloResponseSchema, { clockNs: this.#wallClock() }));

  adjustClock: Guest['adjustClock'] = (deltaNs) => {
    this.clockOffNs += deltaNs;
    return Promise.resolve(this.#wallClock());
  };

  configureSandbox: Guest['configureSandbox'] = () => {
    this.#mayFail('configureSandbox');
    this.configured += 1;
    return Promise.resolve(create(ConfigureSandboxResponseSchema, { clockNs: this.#wallClock() }));
  };

  createContainer: Guest['createContainer'] = (request) => {
    this.#mayFail('createContainer');
    const { id = '', process, rootfs } = request;
    this.kept.delete(rootfs?.imageDisk ?? '');
    if (this.containers.has(id)) throw new AppError('already-exists', `container ${id} exists`);
    this.containers.set(id, {
      state: ContainerInfo_State.CREATED,
      argv: [...(process?.argv ?? [])],
      records: [],
      nextSequence: 1n,
      wake: Promise.withResolvers(),
    });
    return Promise.resolve(
      create(CreateContainerResponseSchema, { pid: 7, user: { uid: 1, gid: 2, additionalGids: [3] } }),
    );
  };

  forgetImage: Guest['forgetImage'] = async (disk) => {
    await Promise.resolve();
    this.#mayFail('forgetImage');
    this.kept.delete(disk);
  };

  startContainer: Guest['startContainer'] = async (id) => {
    await Promise.resolve();
    this.#mayFail('startContainer');
    const container = this.#container(id);
    if (container.argv[0] === 'missing') {
      container.state = ContainerInfo_State.EXITED;
      throw new AppError('failed-precondition', 'exec: "missing": no such file or directory');
    }
    container.state = ContainerInfo_State.RUNNING;
    return this.#now();
  };

  updateContainer: Guest['updateContainer'] = async (request) => {
    await Promise.resolve();
    this.#mayFail('updateContainer');
    this.#container(request.id ?? '');
    this.updates.push(request);
  };

  updateSandbox: Guest['updateSandbox'] = async (resources) => {
    await Promise.resolve();
    this.#mayFail('updateSandbox');
    this.updates.push({ id: '', resources });
  };

  signalContainer: Guest['signalContainer'] = async (id, signal) => {
    await Promise.resolve();
    this.#mayFail('signalContainer');
    const container = this.#container(id);
    if (container.state === ContainerInfo_State.EXITED) return false;
    if (signal === 9 || container.argv[0] !== 'stubborn') this.exit(id, { code: 128 + signal, signal });
    return true;
  };

  removeContainer: Guest['removeContainer'] = async (id) => {
    await Promise.resolve();
    this.#mayFail('removeContainer');
    this.containers.delete(id);
  };

  listContainers: Guest['listContainers'] = (): Promise<readonly ContainerInfo[]> => {
    this.#mayFail('listContainers');
    return Promise.resolve(
      [...this.containers].map(([id, { state }]) =>
        create(ContainerInfoSchema, { id, state, startedAtNs: this.#now() }),
      ),
    );
  };

  /** Each container has used a second of CPU time for each question. */
  stats: Guest['stats'] = async (descriptors) => {
    this.#mayFail('stats');
    await this.hung?.promise;
    this.asked += 1;
    const containers = [...this.containers.keys()].map((id) => ({
      id,
      cpu: { usageNs: BigInt(this.asked) * 1_000_000_000n },
      processes: 2n,
      ...(descriptors ? { descriptors: { open: 5n } } : {}),
    }));
    const scratch = { bytes: 1n << 30n, inodes: 9n, inodesFree: 3n };
    return create(StatsResponseSchema, { timeNs: this.#wallClock(), containers, scratch });
  };

  output: Guest['output'] = async function* (
    this: FakeGuest,
    requests: Parameters<Guest['output']>[0],
    signal: AbortSignal,
  ) {
    const ended = AbortSignal.any([signal, this.#connection.signal]);
    const acks = requests[Symbol.asyncIterator]();
    const opening = (await acks.next()) as IteratorResult<{ id?: string; acknowledged?: bigint }>;
    if (opening.done === true) throw new AppError('invalid', 'no opening message');
    const container = this.#container(opening.value.id ?? '');
    const acknowledge = (upTo: bigint): void => {
      container.records = container.records.filter(({ sequence }) => sequence > upTo);
    };
    acknowledge(opening.value.acknowledged ?? 0n);
    void (async () => {
      for (let next = await acks.next(); next.done !== true; next = await acks.next()) {
        if (ended.aborted) return;
        acknowledge(next.value.acknowledged ?? 0n);
      }
    })();
    for (let last = opening.value.acknowledged ?? 0n; ;) {
      if (ended.aborted) throw ended.reason instanceof Error ? ended.reason : new AppError('cancelled', 'aborted');
      const next = container.records.find(({ sequence }) => sequence > last);
      if (next === undefined) {
        await Promise.race([container.wake.promise, once(ended)]);
        continue;
      }
      last = next.sequence;
      yield next;
      if (next.exit !== undefined) return;
    }
  }.bind(this);

  exec: Guest['exec'] = async function* (
    this: FakeGuest,
    requests: Parameters<Guest['exec']>[0],
  ): AsyncGenerator<ExecResponse> {
    this.#mayFail('exec');
    for await (const { start } of requests) {
      const argv = start?.process?.argv ?? [];
      yield create(ExecResponseSchema, { started: true });
      yield create(ExecResponseSchema, { channel: Channel.STDOUT, data: Buffer.from(`${argv.join(' ')}\n`) });
      yield create(ExecResponseSchema, { exit: { code: argv[0] === 'false' ? 1 : 0, timedOut: argv[0] === 'sleep' } });
      return;
    }
  }.bind(this);

  /** What came in, by container. */
  readonly stdin = new Map<string, string>();
  readonly sizes: { readonly id: string; readonly width: number; readonly height: number }[] = [];

  writeStdin: Guest['writeStdin'] = async (requests, signal) => {
    this.#mayFail('writeStdin');
    let id = '';
    for await (const request of requests) {
      if (signal.aborted) throw new AppError('cancelled', 'aborted');
      if (id === '') id = request.id ?? '';
      this.stdin.set(id, (this.stdin.get(id) ?? '') + Buffer.from(request.data ?? []).toString());
    }
  };

  resizeTty: Guest['resizeTty'] = async (id, width, height) => {
    await Promise.resolve();
    this.#mayFail('resizeTty');
    this.sizes.push({ id, width, height });
  };

  /** Every port sends back what it gets, but 1, where nobody listens, and 2, which resets what was sent to it. */
  portForward: Guest['portForward'] = async function* (
    this: FakeGuest,
    requests: Parameters<Guest['portForward']>[0],
    signal: AbortSignal,
  ): AsyncGenerator<PortForwardResponse> {
    let to = 0;
    for await (const { port, data, eof } of requests) {
      if (signal.aborted) throw new AppError('cancelled', 'aborted');
      if (port === 1) throw new AppError('failed-precondition', 'connection refused');
      to = port ?? to;
      const reset = to === 2 && data !== undefined;
      yield create(PortForwardResponseSchema, {
        reset,
        connected: port !== undefined,
        data: data ?? Buffer.alloc(0),
        eof: eof ?? false,
      });
      if (reset) return;
    }
  }.bind(this);

  #append(id: string, part: { channel?: Channel; data?: Uint8Array; exit?: Exit }): void {
    const container = this.#container(id);
    container.records.push(
      create(OutputRecordSchema, { sequence: container.nextSequence, timeNs: this.#now(), ...part }),
    );
    container.nextSequence += 1n;
    const { resolve } = container.wake;
    container.wake = Promise.withResolvers();
    resolve(undefined);
  }

  #container(id: string): FakeContainer {
    const container = this.containers.get(id);
    if (container === undefined) throw new AppError('not-found', `container ${id} not found`);
    return container;
  }

  #mayFail(call: keyof Guest): void {
    const failure = this.#failures.get(call);
    this.#failures.delete(call);
    if (failure !== undefined) throw failure;
  }

  #wallClock(): bigint {
    return BigInt(Date.now()) * 1_000_000n + this.clockOffNs;
  }

  /** Of the container's doings: made up, so that tests can compare. */
  #now(): bigint {
    this.#clock += 1_000_000n;
    return this.#clock;
  }
}

async function once(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        resolve();
      },
      { once: true },
    );
  });
}
