import { CleanupStack } from '../platform/cleanup-stack.ts';
import { AppError, abortError, messageOf } from '../platform/errors.ts';
import { KeyedMutex } from '../platform/keyed-mutex.ts';
import type { Log } from '../platform/log.ts';
import { isImpersonal, serves, versionOf } from './cni/ahead.ts';
import { AttachmentCache, POD_INTERFACE } from './cni/attachment-cache.ts';
import type { Attachment } from './cni/attachment-cache.ts';
import { capabilityArguments } from './cni/capabilities.ts';
import type { CapabilityRequest } from './cni/capabilities.ts';
import { PluginChain } from './cni/chain.ts';
import type { NewAttachment, StepTrace } from './cni/chain.ts';
import { ConfigFiles } from './cni/config-files.ts';
import type { ConfigState } from './cni/config-files.ts';
import { PluginRunner } from './cni/invoke.ts';
import type { Programs } from './cni/invoke.ts';
import { addressesOf, parseResult } from './cni/result.ts';
import type { CniResult } from './cni/result.ts';
import { TAP_NAME } from './network-namespaces.ts';
import { describeNamespace } from './read-interfaces.ts';
import type { NamespaceNetwork } from './read-interfaces.ts';

/** Does what needs a process of its own. */
export interface JoiningPrograms extends Programs {
  /** Connects interface and tap in a namespace; what there is in it, as `describeNamespace` takes it. */
  join(namespace: string, interfaceName: string, tap: string): Promise<unknown>;
}

export interface CniPodNetworksOptions {
  readonly networker: JoiningPrograms;
  /** Where CNI configurations are, e.g. /etc/cni/net.d. */
  readonly confDir: string;
  /** Where CNI plugins are, e.g. /opt/cni/bin. */
  readonly binDirs: readonly string[];
  /** Where the results of ADD are kept until DEL. */
  readonly cacheDir: string;
  /** Whether networks may be made before there are pods that want them. */
  readonly attachAhead?: boolean;
  readonly log: Log;
  readonly pluginTimeoutMs?: number;
  /** Between two looks at the configuration directory and at the plugins' readiness. */
  readonly pollMs?: number;
}

export interface AttachRequest extends CapabilityRequest {
  readonly sandboxId: string;
  readonly netns: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
}

/** What a guest is given. */
export interface AttachedNetwork extends NamespaceNetwork {
  /** Addresses without prefix length, the primary one first. */
  readonly ips: readonly string[];
}

export interface PodNetworksState {
  readonly ready: boolean;
  readonly reason: string;
  readonly message: string;
  readonly configuration?: unknown;
}

const NO_TRACE: StepTrace = { step: (_name, work) => work(NO_TRACE) };

/** Pods' networks by CNI plugins: ADD into the namespace of a VM, joined with its tap, and DEL. */
export class CniPodNetworks {
  readonly #networker: JoiningPrograms;
  readonly #log: Log;
  readonly #files: ConfigFiles;
  readonly #chain: PluginChain;
  readonly #cache: AttachmentCache;
  readonly #pollMs: number;
  readonly #mayAttachAhead: boolean;
  readonly #sandboxes = new KeyedMutex();
  readonly #closed = new AbortController();
  #podCidrs: readonly string[] = [];
  #unready: string | undefined;
  #poll: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;

  constructor(options: CniPodNetworksOptions) {
    this.#networker = options.networker;
    this.#log = options.log;
    this.#pollMs = options.pollMs ?? 5_000;
    this.#mayAttachAhead = options.attachAhead ?? false;
    this.#cache = new AttachmentCache(options.cacheDir);
    const timeout = options.pluginTimeoutMs === undefined ? {} : { timeoutMs: options.pluginTimeoutMs };
    this.#chain = new PluginChain(
      new PluginRunner({ programs: options.networker, binDirs: options.binDirs, ...timeout }),
      this.#cache,
    );
    this.#files = new ConfigFiles({
      directory: options.confDir,
      log: options.log,
      pollMs: this.#pollMs,
      onChange: () => void this.#checkReadiness(),
    });
  }

  /** Loads the configuration and follows its changes. A missing configuration is a state, not an error. */
  async start(): Promise<void> {
    await this.#cache.tidy();
    await this.#files.refresh();
    await this.#files.watch();
    await this.#checkReadiness();
    this.#poll = setInterval(() => void this.#checkReadiness(), this.#pollMs);
    this.#poll.unref();
  }

  /** Ends the watching and a check of the plugins that may be going on. Attachments stay. */
  async close(): Promise<void> {
    clearInterval(this.#poll);
    this.#files.close();
    this.#closed.abort();
    await this.#checking;
  }

  /** Subnets that Kubernetes has given to this node, for plugins with the ipRanges capability. */
  setPodCidrs(cidrs: readonly string[]): void {
    this.#podCidrs = cidrs;
  }

  /** From memory: the kubelet asks every few seconds. */
  state(): PodNetworksState {
    const files = this.#files.current();
    const problem = files.found ? this.#unready : files.problem;
    return {
      ready: problem === undefined,
      reason: problem === undefined ? '' : 'NetworkPluginNotReady',
      message: problem ?? '',
      ...(files.found ? { configuration: { ...summary(files), madeAhead: this.#isMadeAhead(files) } } : {}),
    };
  }

  /** CNI ADD, then joins interface and tap. Undoes what it did on any failure. Again for the same sandbox: the same answer. */
  async attach(request: AttachRequest, signal: AbortSignal, trace: StepTrace = NO_TRACE): Promise<AttachedNetwork> {
    return this.#sandboxes.run(request.sandboxId, async () => {
      const files = await this.#files.refresh();
      const existing = await this.#existing(request, files);
      if (existing !== undefined) return this.#connect(request, existing, trace);
      if (!files.found) throw new AppError('unavailable', files.problem);
      if (signal.aborted) throw abortError(signal, `attach the network of sandbox ${request.sandboxId}`);
      const attachment = this.#newAttachment(request, files);
      return this.#undoing(request.sandboxId, () => this.#add(request, attachment, signal, trace));
    });
  }

  /**
   * What an attachment made ahead is like now: those made at an equal version are alike. Empty: none may be made.
   * Undefined while there is no network, or none that is ready.
   */
  get aheadVersion(): string | undefined {
    const files = this.#files.current();
    if (this.#unready !== undefined || !files.found) return undefined;
    return this.#isMadeAhead(files) ? versionOf(files.configuration, this.#capabilitiesAhead()) : '';
  }

  #isMadeAhead({ configuration }: Extract<ConfigState, { found: true }>): boolean {
    return this.#mayAttachAhead && isImpersonal(configuration);
  }

  /**
   * CNI ADD for a pod that is to come, and of which nothing is known but the id it will have. `attach` with that id
   * takes the result over, if it is what the pod would have got, and `detach` undoes it as any other.
   */
  async attachAhead(sandboxId: string, netns: string, signal: AbortSignal): Promise<void> {
    await this.#sandboxes.run(sandboxId, async () => {
      const files = await this.#files.refresh();
      if (!files.found) throw new AppError('unavailable', files.problem);
      // It may have become another one since the caller has looked.
      if (!this.#isMadeAhead(files))
        throw new AppError('failed-precondition', `CNI network ${files.configuration.name} is made with its pods only`);
      const attachment = {
        sandboxId,
        netns,
        configuration: files.configuration,
        cniArgs: cniArgs({ sandboxId }),
        capabilityArgs: this.#capabilitiesAhead(),
        ahead: true,
      };
      await this.#undoing(sandboxId, () => this.#chain.add(attachment, NO_TRACE, signal, () => undefined));
    });
  }

  /** Ids of sandboxes that have attachments, or may have. */
  attachedIds(): Promise<ReadonlySet<string>> {
    return this.#cache.sandboxIds();
  }

  /** Work that attaches a sandbox; when it fails, what was attached is taken away. */
  async #undoing<T>(sandboxId: string, work: () => Promise<T>): Promise<T> {
    const rollback = new CleanupStack();
    rollback.defer('CNI DEL', async () => {
      await this.#deleteAll(sandboxId);
    });
    try {
      return await work();
    } catch (error) {
      await rollback.unwind().catch((left: unknown) => {
        // The record of the attachment is kept: detach tries again.
        this.#log.error({ sandboxId, err: left }, `network left behind: ${messageOf(left)}`);
      });
      throw error;
    }
  }

  /** CNI ADD; the interface is joined while plugins that leave it alone still work. Both have ended when this does. */
  async #add(
    request: AttachRequest,
    attachment: NewAttachment,
    signal: AbortSignal,
    trace: StepTrace,
  ): Promise<AttachedNetwork> {
    let connecting: Promise<AttachedNetwork> | undefined;
    try {
      const result = await this.#chain.add(attachment, trace, signal, (settled) => {
        connecting = this.#connect(request, settled, trace);
        // Awaited below, but ADD may fail first.
        connecting.catch(() => undefined);
      });
      connecting ??= this.#connect(request, result, trace);
      return await connecting;
    } catch (error) {
      await connecting?.catch(() => undefined);
      throw error;
    }
  }

  /**
   * CNI DEL with what ADD used. Idempotent; fine when the namespace or the result is gone. False when there is neither a
   * result nor a configuration to do it by.
   */
  async detach(sandboxId: string, netns: string): Promise<boolean> {
    return this.#sandboxes.run(sandboxId, async () => {
      if ((await this.#deleteAll(sandboxId)) > 0) return true;
      // No record, as after a reboot that emptied the cache: address leases may still be on disk.
      const files = await this.#files.refresh();
      if (!files.found) return false;
      const { configuration } = files;
      await this.#chain.delete({
        sandboxId,
        netns,
        configuration,
        cniArgs: cniArgs({ sandboxId }),
        capabilityArgs: {},
        complete: false,
      });
      return true;
    });
  }

  /** The result of an ADD that has succeeded already; what is left of a broken one is removed. */
  async #existing(request: AttachRequest, files: ConfigState): Promise<CniResult | undefined> {
    for (const attachment of await this.#cache.find(request.sandboxId)) {
      if (attachment.complete && attachment.netns === request.netns && this.#fits(attachment, request, files)) {
        // From now on it is the pod's.
        if (attachment.ahead === true)
          await this.#cache.write({ ...attachment, cniArgs: cniArgs(request), ahead: undefined });
        return parseResult(attachment.result, attachment.configuration.cniVersion);
      }
      await this.#chain.delete(attachment);
    }
    return undefined;
  }

  #fits(attachment: Attachment, request: AttachRequest, files: ConfigState): boolean {
    if (attachment.ahead !== true) return true;
    const asked = capabilityArguments(request, this.#podCidrs);
    return files.found && this.#isMadeAhead(files) && serves(attachment, files.configuration, asked);
  }

  async #deleteAll(sandboxId: string): Promise<number> {
    const attachments = await this.#cache.find(sandboxId);
    for (const attachment of attachments) await this.#chain.delete(attachment);
    return attachments.length;
  }

  #capabilitiesAhead(): NewAttachment['capabilityArgs'] {
    return capabilityArguments(nothingAsked, this.#podCidrs);
  }

  #newAttachment(
    request: AttachRequest,
    { configuration }: { configuration: NewAttachment['configuration'] },
  ): NewAttachment {
    return {
      sandboxId: request.sandboxId,
      netns: request.netns,
      configuration,
      cniArgs: cniArgs(request),
      capabilityArgs: capabilityArguments(request, this.#podCidrs),
    };
  }

  async #connect(request: AttachRequest, result: CniResult, trace: StepTrace): Promise<AttachedNetwork> {
    return trace.step('network join', async () => {
      const network = describeNamespace(await this.#networker.join(request.netns, POD_INTERFACE, TAP_NAME));
      const joined = network.interfaces.find((each) => each.name === POD_INTERFACE);
      if (joined === undefined) {
        throw new AppError(
          'internal',
          `the CNI plugins gave ${POD_INTERFACE} of sandbox ${request.sandboxId} no address`,
        );
      }
      for (const { name } of network.interfaces.filter((each) => each !== joined)) {
        this.#log.warn(
          { sandboxId: request.sandboxId },
          `interface ${name} does not reach the pod: its VM has one network card`,
        );
      }
      return {
        interfaces: [joined],
        routes: network.routes.filter((each) => each.interface === POD_INTERFACE),
        neighbours: network.neighbours.filter((each) => each.interface === POD_INTERFACE),
        ips: primaryFirst(joined.addresses, addressesOf(result)),
      };
    });
  }

  /** One check at a time; the last answer is what `state` tells. */
  #checkReadiness(): Promise<void> {
    this.#checking ??= this.#readiness()
      .catch((error: unknown) => {
        this.#log.warn({ err: error }, 'cannot check the CNI plugins');
      })
      .finally(() => {
        this.#checking = undefined;
      });
    return this.#checking;
  }

  async #readiness(): Promise<void> {
    const files = this.#files.current();
    if (!files.found) return;
    const problem = await this.#chain.problem(files.configuration, this.#closed.signal);
    if (this.#closed.signal.aborted) return;
    if (this.#files.current() !== files) return this.#readiness();
    const { name } = files.configuration;
    const message = problem === undefined ? undefined : `CNI network ${name} (${files.file}) is not ready: ${problem}`;
    if (message !== this.#unready) this.#log.info(message ?? `CNI network ${name} is ready`);
    this.#unready = message;
  }
}

/** A pod that is not known yet. */
const nothingAsked = { portMappings: [], dns: { servers: [], searches: [], options: [] }, cgroupParent: '' };

function cniArgs(pod: { sandboxId: string; podNamespace?: string; podName?: string; podUid?: string }): string {
  return [
    'IgnoreUnknown=1',
    `K8S_POD_NAMESPACE=${pod.podNamespace ?? ''}`,
    `K8S_POD_NAME=${pod.podName ?? ''}`,
    `K8S_POD_INFRA_CONTAINER_ID=${pod.sandboxId}`,
    `K8S_POD_UID=${pod.podUid ?? ''}`,
  ].join(';');
}

/** The addresses that the interface has, in the order of the CNI result, then those it does not mention. */
function primaryFirst(onInterface: readonly string[], inResult: readonly string[]): readonly string[] {
  const has = new Set(onInterface.map(plain));
  const named = inResult.map(plain).filter((address) => has.has(address));
  return [...new Set([...named, ...has])];
}

function plain(address: string): string {
  return address.split('/')[0] ?? address;
}

function summary(state: Extract<ConfigState, { found: true }>): Readonly<Record<string, unknown>> {
  const { name, cniVersion, plugins } = state.configuration;
  return { name, file: state.file, cniVersion, plugins: plugins.map(({ type }) => type), skipped: state.skipped };
}
