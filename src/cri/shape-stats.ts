import type { ContainerStats, Pressure, PressureLine, SandboxStats } from '../podsandbox/stats-model.ts';
import type { Outgoing } from './call.ts';
import type * as cri from './gen/cri-types.ts';

/** What the kubelet and crictl look at first among the interfaces of a pod. */
const defaultInterface = 'eth0';

export function value(number: bigint): { readonly value: string };
export function value(number: bigint | undefined): { readonly value: string } | null;
/** A wrapped number; null when it is not known. */
export function value(number: bigint | undefined): { readonly value: string } | null {
  return number === undefined ? null : { value: String(number) };
}

function shapeLine(line: PressureLine | undefined): Outgoing<cri.PsiData> {
  return {
    Total: String(line?.totalUs ?? 0n),
    Avg10: line?.avg10 ?? 0,
    Avg60: line?.avg60 ?? 0,
    Avg300: line?.avg300 ?? 0,
  };
}

function shapePressure(pressure: Pressure | undefined): Outgoing<cri.PsiStats> | null {
  return pressure === undefined ? null : { Some: shapeLine(pressure.some), Full: shapeLine(pressure.full) };
}

/** Limit minus working set; there is no such thing without a limit. */
function available(limit: bigint | undefined, workingSet: bigint): bigint | undefined {
  if (limit === undefined || limit === 0n) return undefined;
  return limit > workingSet ? limit - workingSet : 0n;
}

/** `mountpoint`: a folder on the file system of the writable layers. */
export function shapeContainerStats(
  { container, at, figures, nanoCores }: ContainerStats,
  mountpoint: string,
): Outgoing<cri.ContainerStats> {
  const { cpu, memory, writableLayer } = figures;
  const timestamp = String(at);
  return {
    attributes: {
      id: container.id,
      metadata: container.config.metadata,
      labels: container.config.labels,
      annotations: container.config.annotations,
    },
    cpu: {
      timestamp,
      usage_core_nano_seconds: value(cpu?.usageNs),
      usage_nano_cores: value(nanoCores),
      psi: shapePressure(figures.cpuPressure),
    },
    memory: {
      timestamp,
      working_set_bytes: value(memory?.workingSet),
      available_bytes: value(available(memory?.limit, memory?.workingSet ?? 0n)),
      usage_bytes: value(memory?.usage),
      rss_bytes: value(memory?.rss),
      page_faults: value(memory?.pageFaults),
      major_page_faults: value(memory?.majorPageFaults),
      psi: shapePressure(figures.memoryPressure),
    },
    writable_layer:
      writableLayer === undefined
        ? null
        : {
            timestamp: String(writableLayer.timeNs),
            fs_id: { mountpoint },
            used_bytes: value(writableLayer.bytes),
            inodes_used: value(writableLayer.inodes),
          },
    swap: {
      timestamp,
      swap_available_bytes: value(available(memory?.swapLimit, memory?.swap ?? 0n) ?? 0n),
      swap_usage_bytes: value(memory?.swap),
    },
    io: { timestamp, psi: shapePressure(figures.ioPressure) },
  };
}

function shapeNetwork({ usage }: SandboxStats): Outgoing<cri.NetworkUsage> {
  const shaped = usage.interfaces.map(({ name, received, sent }) => ({
    name,
    rx_bytes: value(received.bytes),
    rx_errors: value(received.errors),
    tx_bytes: value(sent.bytes),
    tx_errors: value(sent.errors),
  }));
  const main = shaped.find(({ name }) => name === defaultInterface) ?? shaped[0];
  return {
    timestamp: String(usage.at),
    default_interface: main ?? null,
    interfaces: shaped.filter((it) => it !== main),
  };
}

export function shapeSandboxStats(stats: SandboxStats, mountpoint: string): Outgoing<cri.PodSandboxStats> {
  const { sandbox, usage, nanoCores, answered, containers } = stats;
  const { memory, pressure } = usage;
  const timestamp = String(usage.at);
  return {
    attributes: {
      id: sandbox.id,
      metadata: sandbox.config.metadata,
      labels: sandbox.config.labels,
      annotations: sandbox.config.annotations,
    },
    linux: {
      cpu: {
        timestamp,
        usage_core_nano_seconds: value(usage.cpuNs),
        usage_nano_cores: value(nanoCores),
        psi: shapePressure(pressure.cpu),
      },
      memory: {
        timestamp,
        working_set_bytes: value(memory?.workingSet),
        available_bytes: memory === undefined ? null : value(available(memory.limit, memory.workingSet)),
        usage_bytes: value(memory?.usage),
        rss_bytes: value(memory?.rss),
        page_faults: value(memory?.pageFaults),
        major_page_faults: value(memory?.majorPageFaults),
        psi: shapePressure(pressure.memory),
      },
      network: shapeNetwork(stats),
      process: answered
        ? { timestamp, process_count: value(containers.reduce((sum, it) => sum + it.figures.processes, 0n)) }
        : null,
      containers: containers
        .filter(({ container }) => container.state === 'running')
        .map((it) => shapeContainerStats(it, mountpoint)),
      io: { timestamp, psi: shapePressure(pressure.io) },
    },
  };
}
