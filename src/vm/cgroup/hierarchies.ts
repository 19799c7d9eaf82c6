/** A controller in which a VM is limited or accounted for: there its group has its place below the pod's. */
const resourceControllers = new Set(['cpu', 'cpuacct', 'cpuset', 'memory', 'pids', 'blkio', 'hugetlb']);
/** Those of v1 beside them. The VM stays where it was started: its device rules are there. */
const otherControllers = new Set(['freezer', 'devices', 'perf_event', 'net_cls', 'net_prio']);

export interface CgroupHierarchy {
  readonly mountPoint: string;
  readonly version: 1 | 2;
  /** Of v1; those of v2 are switched on group by group. */
  readonly controllers: readonly string[];
}

/** Hierarchies of a mountinfo file that VMs get a group in, each mount once. */
export function parseHierarchies(mountinfo: string): CgroupHierarchy[] {
  const found = new Map<string, CgroupHierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [mount = '', source = ''] = line.split(' - ');
    const [root, mountPoint] = mount.split(' ').slice(3, 5);
    const [type, , superOptions = ''] = source.split(' ');
    if (mountPoint === undefined || root === undefined) continue;
    if (type === 'cgroup2') found.set('unified', { mountPoint, version: 2, controllers: [] });
    if (type !== 'cgroup') continue;
    const controllers = superOptions
      .split(',')
      .filter((name) => resourceControllers.has(name) || otherControllers.has(name));
    if (controllers.length > 0) found.set(controllers.join(','), { mountPoint, version: 1, controllers });
  }
  return [...found.values()];
}

/**
 * Those in which a VM moves below its pod's group. A v2 tree beside controllers of v1 has no
 * controllers of use and keeps the VM where it is.
 */
export function resourceHierarchies(all: readonly CgroupHierarchy[]): readonly CgroupHierarchy[] {
  const v1 = all.filter(({ version }) => version === 1);
  return v1.length === 0 ? all : v1.filter(({ controllers }) => controllers.some((it) => resourceControllers.has(it)));
}
