import { z } from 'zod';
import { table } from './table.ts';

/** `pools` of the info that the daemon adds to a verbose Status. */
export const poolsSchema = z.object({
  classes: z.array(
    z.object({
      className: z.string(),
      idle: z.number(),
      outdated: z.number(),
      size: z.number(),
      floor: z.number(),
      ceiling: z.number(),
      hits: z.number(),
      misses: z.number(),
      agesMs: z.array(z.number()),
      template: z.string(),
    }),
  ),
  memoryShortage: z.string().optional(),
});

export type Pools = z.output<typeof poolsSchema>;

const header = ['CLASS', 'TEMPLATE', 'IDLE', 'TARGET', 'RANGE', 'HITS', 'MISSES', 'AGES'] as const;

/** Lines for people: one for each class whose virtual machines are clones. */
export function poolTable({ classes, memoryShortage }: Pools): string {
  const rows = classes.map(({ className, idle, outdated, size, floor, ceiling, hits, misses, agesMs, template }) => [
    className,
    template,
    outdated === 0 ? String(idle) : `${String(idle)} (${String(outdated)} old)`,
    String(size),
    floor === ceiling ? String(floor) : `${String(floor)}-${String(ceiling)}`,
    String(hits),
    String(misses),
    shownAges(agesMs),
  ]);
  const note = memoryShortage === undefined ? '' : `\nmemory is short, pools shrink: ${memoryShortage}\n`;
  return table([[...header], ...rows]) + note;
}

/** Of many, the oldest and the youngest say enough. */
function shownAges(agesMs: readonly number[]): string {
  const ages = agesMs.toSorted((a, b) => b - a).map(shownAge);
  return ages.length <= 4 ? ages.join(' ') : `${ages[0] ?? ''} ... ${ages.at(-1) ?? ''}`;
}

function shownAge(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 120) return `${String(seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${String(minutes)}m` : `${String(Math.floor(minutes / 60))}h`;
}
