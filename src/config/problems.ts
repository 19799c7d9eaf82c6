import type { z } from 'zod';
import { AppError } from '../platform/errors.ts';
import { acceptedAt, configKeys } from './keys.ts';
import { nearest } from './nearest.ts';
import { nameAccepts } from './schema.ts';
import { isPlainTable } from './tables.ts';

/** One thing to correct. */
export interface Problem {
  /** File or flag. */
  readonly source: string;
  /** Dotted; empty when it is about the file as a whole. */
  readonly key: string;
  readonly text: string;
}

/** Everything that is wrong with a configuration, at once. */
export class ConfigError extends AppError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    const lines = problems.map(({ source, key, text }) => `  ${source}: ${key === '' ? '' : `${key}: `}${text}`);
    const count = problems.length === 1 ? 'a problem' : `${String(problems.length)} problems`;
    super('invalid', `${count} in the configuration:\n${lines.join('\n')}`);
    this.problems = problems;
  }
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (isPlainTable(value)) return 'a table';
  const text = typeof value === 'bigint' ? String(value) : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function at(values: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (node, step) =>
      typeof node === 'object' && node !== null ? (node as Record<PropertyKey, unknown>)[step] : undefined,
    values,
  );
}

function spell(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (key, step) =>
      typeof step === 'number' ? `${key}[${String(step)}]` : key === '' ? String(step) : `${key}.${String(step)}`,
    '',
  );
}

/** Siblings of an unknown key first; then a key of that very name in another table. */
function suggestion(table: readonly PropertyKey[], key: string): string {
  const all = configKeys().map((known) => known.key);
  const names = all.map((known) => known.split('.'));
  const sameTable = (parts: readonly string[]): boolean =>
    parts.length > table.length && table.every((step, i) => parts[i] === step || parts[i] === '<name>');
  const siblings = [...new Set(names.filter(sameTable).map((parts) => parts[table.length] ?? ''))].filter(
    (sibling) => sibling !== '<name>',
  );
  const close = nearest(key, siblings);
  if (close !== undefined) return `, did you mean "${close}"?`;
  const elsewhere = all.find((known) => known.split('.').at(-1) === key);
  if (elsewhere !== undefined) return `, did you mean ${elsewhere}?`;
  return siblings.length === 0 ? '' : `, accepted here: ${siblings.join(', ')}`;
}

/** Zod's issues in the words of the configuration. */
export function problemsOf(
  issues: readonly z.core.$ZodIssue[],
  values: unknown,
  sourceOf: (key: string) => string | undefined,
): readonly Problem[] {
  const problems = new Map<string, Problem>();
  const add = (path: readonly PropertyKey[], text: string): void => {
    const key = spell(path);
    if (!problems.has(key))
      problems.set(key, {
        source: sourceOf(spell(path.filter((step) => typeof step !== 'number'))) ?? 'default',
        key,
        text,
      });
  };
  for (const issue of issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) add([...issue.path, key], `unknown key${suggestion(issue.path, key)}`);
    } else if (issue.code === 'invalid_key') {
      add(issue.path, `found this name, accepted: ${nameAccepts}`);
    } else {
      add(issue.path, `found ${show(at(values, issue.path))}, accepted: ${acceptedAt(issue.path)}`);
    }
  }
  return [...problems.values()];
}
