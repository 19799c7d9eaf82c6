import type { Attachment } from './attachment-cache.ts';
import { runtimeConfig } from './capabilities.ts';
import type { CapabilityArguments } from './capabilities.ts';
import type { NetworkConfiguration } from './config-schema.ts';

/**
 * Plugins of the reference set (https://www.cni.dev/plugins/current/) whose ADD goes by the container's id, its
 * namespace and the configuration, and by nothing else of the pod than capabilities. Others may do with the pod's name
 * what they like: ask a policy engine, or choose an address by it.
 */
const IMPERSONAL = new Set(['bridge', 'ptp', 'portmap', 'bandwidth', 'firewall', 'tuning']);
const IMPERSONAL_IPAM = new Set(['host-local']);
/** Capabilities that nearly every pod has arguments of its own for. */
const PERSONAL_CAPABILITIES = ['dns', 'cgroupPath'];

/** Whether ADD for a pod that nobody has asked for yet comes to the same as ADD for that pod. */
export function isImpersonal({ plugins }: NetworkConfiguration): boolean {
  return plugins.every(
    ({ type, capabilities, ...rest }) =>
      IMPERSONAL.has(type) &&
      hasImpersonalIpam(rest) &&
      !PERSONAL_CAPABILITIES.some((name) => capabilities?.[name] === true),
  );
}

function hasImpersonalIpam({ ipam }: Record<string, unknown>): boolean {
  if (ipam === undefined) return true;
  const type = typeof ipam === 'object' && ipam !== null && 'type' in ipam ? ipam.type : undefined;
  // A bridge without addresses may have {}.
  return type === undefined || (typeof type === 'string' && IMPERSONAL_IPAM.has(type));
}

/** Equal for configurations that come to the same attachment. */
export function versionOf(configuration: NetworkConfiguration, capabilityArgs: CapabilityArguments): string {
  return JSON.stringify([configuration, configuration.plugins.map((plugin) => runtimeConfig(plugin, capabilityArgs))]);
}

/** Whether an attachment that was made ahead is what a pod with these arguments would get from the configuration of now. */
export function serves(
  attachment: Attachment,
  configuration: NetworkConfiguration,
  capabilityArgs: CapabilityArguments,
): boolean {
  return versionOf(attachment.configuration, attachment.capabilityArgs) === versionOf(configuration, capabilityArgs);
}
