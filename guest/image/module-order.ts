/**
 * What the devices and file systems of a guest need, and devices that containers ask for. crc32c_generic is a soft dependency of ext4,
 * which no `depends` field names.
 */
export const wantedModules: readonly string[] = [
  'virtio_pci',
  'virtio_console',
  'virtio_rng',
  'virtio_blk',
  'virtio_net',
  'virtio_balloon',
  'virtio_scsi',
  'sd_mod',
  '9pnet_virtio',
  '9p',
  'crc32c_generic',
  'erofs',
  'ext4',
  'overlay',
  'fuse',
  'tun',
  // For containers with NET_ADMIN.
  'bridge',
];

/** Files are named with dashes or underscores, as it comes; the kernel knows underscores only. */
export function moduleName(path: string): string {
  return path
    .slice(path.lastIndexOf('/') + 1)
    .replace(/\.ko$/, '')
    .replaceAll('-', '_');
}

/** The `depends` field of a module's .modinfo section. */
export function moduleDependencies(module: Buffer): readonly string[] {
  const field = Buffer.from('\0depends=');
  const at = module.indexOf(field);
  if (at < 0) return [];
  const start = at + field.length;
  const names = module.toString('latin1', start, module.indexOf(0, start));
  return names
    .split(',')
    .filter((name) => name !== '')
    .map(moduleName);
}

/** Every wanted module after those it needs. */
export function loadOrder(
  wanted: readonly string[],
  dependenciesOf: (name: string) => readonly string[],
): readonly string[] {
  const order = new Set<string>();
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) throw new Error(`kernel modules need each other: ${[...path, name].join(' -> ')}`);
    if (order.has(name)) return;
    for (const dependency of dependenciesOf(name)) visit(dependency, [...path, name]);
    order.add(name);
  };
  for (const name of wanted) visit(name, []);
  return [...order];
}
