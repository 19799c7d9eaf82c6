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
    masked_paths: [
      '/proc/asound',
      '/proc/acpi',
      '/proc/interrupts',
      '/proc/kcore',
      '/proc/keys',
      '/proc/latency_stats',
      '/proc/timer_list',
      '/proc/timer_stats',
      '/proc/sched_debug',
      '/proc/scsi',
      '/sys/firmware',
      '/sys/devices/virtual/powercap',
    ],
    readonly_paths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
  },
};
