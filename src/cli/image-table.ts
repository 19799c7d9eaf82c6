import type * as cri from '../cri/gen/cri-types.ts';
import { table } from './table.ts';

const header = ['IMAGE', 'TAG', 'IMAGE ID', 'SIZE', 'PINNED'] as const;
/** As docker and crictl shorten ids, which both take again. */
const idDigits = 13;
const none = '<none>';

/** Lines for people: one for each tag of an image, or one for an image without. */
export function imageTable(images: readonly cri.Image[]): string {
  const rows = images.flatMap(rowsOf).toSorted((a, b) => a.join(' ').localeCompare(b.join(' '), 'en'));
  return table([[...header], ...rows]);
}

function rowsOf({ id, repo_tags: tags, repo_digests: digests, size, pinned }: cri.Image): string[][] {
  const rest = [id.replace(/^sha256:/, '').slice(0, idDigits), shownSize(Number(size)), pinned ? 'yes' : ''];
  if (tags.length > 0) return tags.map((tag) => [...splitTag(tag), ...rest]);
  return [[digests[0]?.split('@')[0] ?? none, none, ...rest]];
}

/** The colon before a port is no tag's. */
function splitTag(name: string): [string, string] {
  const colon = name.lastIndexOf(':');
  return [name.slice(0, colon), name.slice(colon + 1)];
}

function shownSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toFixed(power === 0 || value >= 100 ? 0 : 1)}${units[power] ?? ''}`;
}
