import { z } from 'zod';
import { metaOf } from './setting.ts';
import { configSchema } from './schema.ts';

/** One key of the configuration, `<name>` standing for the free part of a table. */
export interface ConfigKey {
  readonly key: string;
  readonly accepts: string;
  /** Undefined: none. */
  readonly fallback: unknown;
}

/** The schema below wrappers such as a default. */
function inner(schema: unknown): unknown {
  return schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault || schema instanceof z.ZodOptional
    ? inner(schema.unwrap())
    : schema;
}

function* walk(schema: unknown, prefix: readonly string[]): Generator<ConfigKey> {
  const meta = metaOf(schema);
  if (meta !== undefined) {
    yield { key: prefix.join('.'), accepts: meta.accepts, fallback: meta.fallback };
    return;
  }
  const node = inner(schema);
  if (node instanceof z.ZodRecord) yield* walk(node.valueType, [...prefix, '<name>']);
  if (node instanceof z.ZodObject) {
    for (const [key, child] of Object.entries(node.shape)) yield* walk(child, [...prefix, key]);
  }
}

/** Every key there is, in the order of the schema. */
export function configKeys(): readonly ConfigKey[] {
  return [...walk(configSchema, [])];
}

/** What is accepted at a path: of the setting that holds it, or the keys of the table it names. */
export function acceptedAt(path: readonly PropertyKey[]): string {
  let schema: unknown = configSchema;
  for (const step of path) {
    if (metaOf(schema) !== undefined) break;
    const node = inner(schema);
    if (node instanceof z.ZodRecord) schema = node.valueType;
    else if (node instanceof z.ZodObject) schema = (node.shape as Record<string, unknown>)[String(step)];
  }
  const meta = metaOf(schema);
  if (meta !== undefined) return meta.accepts;
  const node = inner(schema);
  return node instanceof z.ZodObject ? `a table with the keys ${Object.keys(node.shape).join(', ')}` : 'a table';
}
