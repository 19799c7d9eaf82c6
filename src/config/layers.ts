import { isPlainTable } from './tables.ts';

/** One source of settings: a file, or a flag of the command line. Later layers win. */
export interface Layer {
  /** How messages name it: a path, or a flag such as --root. */
  readonly source: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface Merged {
  readonly values: Readonly<Record<string, unknown>>;
  /** The layer that had the last word on a key such as vm.qemu; undefined when none sets it. */
  readonly sourceOf: (key: string) => string | undefined;
}

/** Tables are merged key by key; everything else, lists too, is replaced as a whole. */
export function mergeLayers(layers: readonly Layer[]): Merged {
  const sources = new Map<string, string>();
  const merge = (below: unknown, above: unknown, source: string, path: readonly string[]): unknown => {
    if (path.length > 0) sources.set(path.join('.'), source);
    if (!isPlainTable(above)) return above;
    const kept = isPlainTable(below) ? Object.entries(below) : [];
    const base = new Map(kept);
    for (const [key, value] of Object.entries(above))
      base.set(key, merge(base.get(key), value, source, [...path, key]));
    // Not by assignment: a key named __proto__ has to stay an (unknown) key.
    return Object.fromEntries(base);
  };
  let values: unknown = {};
  for (const layer of layers) values = merge(values, layer.values, layer.source, []);
  return {
    values: isPlainTable(values) ? values : {},
    sourceOf: (key) => sources.get(key),
  };
}
