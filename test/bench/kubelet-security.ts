import { maskedPaths, readonlyPaths } from '../../src/cli/hidden-paths.ts';
import type { Outgoing } from '../../src/cri/call.ts';
import type * as cri from '../../src/cri/gen/cri-types.ts';

/** What a kubelet asks for pods and containers whose owners have set nothing. */
const namespaces = { network: 'POD', pid: 'CONTAINER', ipc: 'POD' } as const;
const seccomp = { profile_type: 'Unconfined' } as const;

export const podSecurity: Outgoing<cri.LinuxPodSandboxConfig> = {
  security_context: { namespace_options: namespaces, seccomp },
};

export const containerSecurity: Outgoing<cri.LinuxContainerConfig> = {
  resources: { cpu_shares: '2', oom_score_adj: '1000' },
  security_context: {
    namespace_options: namespaces,
    seccomp,
    masked_paths: maskedPaths,
    readonly_paths: readonlyPaths,
  },
};
