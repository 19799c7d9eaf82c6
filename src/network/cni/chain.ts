import { statfs } from 'node:fs/promises';
import { AppError, hasCode, wrap } from '../../platform/errors.ts';
import { POD_INTERFACE } from './attachment-cache.ts';
import type { Attachment, AttachmentCache } from './attachment-cache.ts';
import { runtimeConfig } from './capabilities.ts';
import type { NetworkConfiguration, PluginConfiguration } from './config-schema.ts';
import { PluginError } from './invoke.ts';
import type { CniEnvironment, PluginRunner } from './invoke.ts';
import { parseResult, resultAs } from './result.ts';
import type { CniResult } from './result.ts';
import { isAtLeast } from './version.ts';

/** Times a named step, for "where the time went"; parts of it go into the trace it is given. */
export interface StepTrace {
  step<T>(name: string, work: (parts: StepTrace) => Promise<T>): Promise<T>;
}

/** What an attachment is before any plugin has run. */
export type NewAttachment = Omit<Attachment, 'result' | 'complete'>;

/** From linux/magic.h: the file system of /proc/PID/ns and of what is bound from there. */
const NSFS_MAGIC = 0x6e736673;

/**
 * The plugin of the reference set that sees to host ports. It works on the host's packet filter and
 * hands the result on as it is: what is known before it has run stays so.
 */
const PORTMAP = 'portmap';

/** A plugin that cannot say whether it is ready is not. */
const STATUS_TIMEOUT_MS = 10_000;

/** Runs the plugins of a network as the execution protocol of the CNI specification wants. */
export class PluginChain {
  readonly #runner: PluginRunner;
  readonly #cache: AttachmentCache;

  constructor(runner: PluginRunner, cache: AttachmentCache) {
    this.#runner = runner;
    this.#cache = cache;
  }

  /**
   * ADD of each plugin in order, each with the result of the one before. `settled` is called as soon as
   * no plugin will change the pod's interface any more. After a failure the caller must `delete`.
   */
  async add(
    attachment: NewAttachment,
    trace: StepTrace,
    signal: AbortSignal,
    settled: (result: CniResult) => void,
  ): Promise<CniResult> {
    const { configuration } = attachment;
    const last = configuration.plugins.findLastIndex(({ type }) => type !== PORTMAP);
    let result: CniResult | undefined;
    await this.#cache.write({ ...attachment, complete: false });
    for (const [index, plugin] of configuration.plugins.entries()) {
      const json = await trace.step(`cni ${plugin.type}`, () =>
        this.#runner.run(
          'ADD',
          plugin.type,
          stdin(attachment, plugin, result),
          environment(attachment, attachment.netns),
          signal,
        ),
      );
      try {
        result = parseResult(json, configuration.cniVersion);
      } catch (error) {
        throw wrap(error, `CNI plugin ${plugin.type} (ADD)`);
      }
      if (index === last) settled(result);
      const complete = index === configuration.plugins.length - 1;
      await this.#cache.write({ ...attachment, result: result.content, complete });
    }
    if (result === undefined) throw new AppError('internal', `CNI network ${configuration.name} has no plugin`);
    return result;
  }

  /**
   * DEL of each plugin in reverse. Stops at the first failure, and leaves the record for the next try:
   * an address must not be given back while a later plugin's rules still point to it. A portmap plugin
   * that was given no ports has no such rules; looking for them takes it as long as the others take
   * together, so it does that beside them.
   */
  async delete(attachment: Attachment): Promise<void> {
    const { configuration, result } = attachment;
    // Before 0.4.0, DEL had no prevResult.
    const previous =
      result !== undefined && isAtLeast(configuration.cniVersion, '0.4.0')
        ? parseResult(result, configuration.cniVersion)
        : undefined;
    // The specification's way to say that the namespace is gone: plugins then free what they hold elsewhere.
    const netns = (await isNamespace(attachment.netns)) ? attachment.netns : '';
    const run = (plugin: PluginConfiguration): Promise<unknown> =>
      this.#runner.run('DEL', plugin.type, stdin(attachment, plugin, previous), environment(attachment, netns));
    const [beside, inOrder] = partition(configuration.plugins, (plugin) => hasNoPorts(attachment, plugin));
    const parts = await Promise.allSettled([
      // First: these take longer, and starting a program takes a while.
      (async () => {
        for (const plugin of inOrder.toReversed()) await run(plugin);
      })(),
      ...beside.map(run),
    ]);
    for (const part of parts) if (part.status === 'rejected') throw part.reason;
    await this.#cache.remove(attachment);
  }

  /**
   * Why the network cannot take pods now, as far as its plugins can tell: a program that is missing,
   * or the answer to STATUS, which exists since 1.1.0.
   */
  async problem(configuration: NetworkConfiguration, signal: AbortSignal): Promise<string | undefined> {
    try {
      for (const plugin of configuration.plugins) {
        await this.#runner.find(plugin.type);
        if (!isAtLeast(configuration.cniVersion, '1.1.0')) continue;
        await this.#runner
          .run(
            'STATUS',
            plugin.type,
            pluginConfig(configuration, plugin),
            {},
            AbortSignal.any([signal, AbortSignal.timeout(STATUS_TIMEOUT_MS)]),
          )
          .catch((error: unknown) => {
            // 1 and 4: a plugin that knows neither the version nor the verb, and so cannot be unready.
            if (!(error instanceof PluginError && (error.code === 1 || error.code === 4))) throw error;
          });
      }
      return undefined;
    } catch (error) {
      if (error instanceof AppError) return error.message;
      throw error;
    }
  }
}

/** True for a portmap plugin that ADD gave no ports to. Of an incomplete record nobody knows. */
function hasNoPorts({ complete, capabilityArgs }: Attachment, { type }: PluginConfiguration): boolean {
  return complete && type === PORTMAP && !('portMappings' in capabilityArgs);
}

function partition<T>(all: readonly T[], belongs: (one: T) => boolean): [yes: T[], no: T[]] {
  return [all.filter(belongs), all.filter((one) => !belongs(one))];
}

/** The plugin's own keys with name and version of the network, which override. */
function pluginConfig(configuration: NetworkConfiguration, plugin: PluginConfiguration): Record<string, unknown> {
  const { cniVersions: _alternatives, ...own } = plugin;
  return { ...own, name: configuration.name, cniVersion: configuration.cniVersion };
}

function stdin(
  attachment: NewAttachment,
  plugin: PluginConfiguration,
  previous: CniResult | undefined,
): Record<string, unknown> {
  const { configuration, capabilityArgs } = attachment;
  const runtime = runtimeConfig(plugin, capabilityArgs);
  return {
    ...pluginConfig(configuration, plugin),
    ...(runtime === undefined ? {} : { runtimeConfig: runtime }),
    ...(previous === undefined ? {} : { prevResult: resultAs(previous, configuration.cniVersion) }),
  };
}

function environment({ sandboxId, cniArgs }: NewAttachment, netns: string): CniEnvironment {
  return { CNI_CONTAINERID: sandboxId, CNI_NETNS: netns, CNI_IFNAME: POD_INTERFACE, CNI_ARGS: cniArgs };
}

/** False for a path that is gone, and for the empty file that a vanished bind mount leaves. */
async function isNamespace(path: string): Promise<boolean> {
  try {
    return (await statfs(path)).type === NSFS_MAGIC;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
