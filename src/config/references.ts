import type { Problem } from './problems.ts';
import { configSchema } from './schema.ts';
import { isPlainTable } from './tables.ts';

const quoted = (names: readonly string[]): string => names.map((name) => `"${name}"`).join(', ');

const fallbacks = configSchema.parse({ handlers: {} });
const fallbackClass = configSchema.parse({ handlers: {}, vm: { classes: { any: {} } } }).vm.classes['any'] ?? {
  pool: 0,
};

/**
 * What one key says about another: names that must exist, folders that must differ. Takes the values
 * before the schema has seen them, so that these problems are told together with those of the shape;
 * what has the wrong type is left to the schema.
 */
export function checkReferences(
  values: Readonly<Record<string, unknown>>,
  sourceOf: (key: string) => string | undefined,
): readonly Problem[] {
  const problems: Problem[] = [];
  const add = (key: string, text: string): number => problems.push({ source: sourceOf(key) ?? 'default', key, text });
  const table = (value: unknown): Readonly<Record<string, unknown>> => (isPlainTable(value) ? value : {});

  const handlers = table(values['handlers']);
  const defaultHandler = values['default_handler'] ?? fallbacks.default_handler;
  if (typeof defaultHandler === 'string' && !Object.hasOwn(handlers, defaultHandler)) {
    add('default_handler', `found "${defaultHandler}", accepted: a handler, one of ${quoted(Object.keys(handlers))}`);
  }
  const isHost = (name: string): boolean => table(handlers[name])['runtime'] === 'host';
  if (typeof defaultHandler === 'string' && isHost(defaultHandler)) {
    add('default_handler', `found "${defaultHandler}", accepted: a handler whose runtime is "vm"`);
  }
  if (table(values['host_runtime'])['endpoint'] === undefined) {
    for (const name of Object.keys(handlers).filter(isHost)) {
      add(`handlers.${name}.runtime`, 'found "host", which takes host_runtime.endpoint, and that is not set');
    }
  }
  const classes = table(table(values['vm'])['classes']);
  for (const [name, handler] of Object.entries(handlers)) {
    const vmClass = table(handler)['class'] ?? 'default';
    if (typeof vmClass !== 'string' || Object.hasOwn(classes, vmClass)) continue;
    add(`handlers.${name}.class`, `found "${vmClass}", accepted: a VM class, one of ${quoted(Object.keys(classes))}`);
  }
  for (const [name, vmClass] of Object.entries(classes)) {
    const { pool = fallbackClass.pool, pool_max: most } = table(vmClass);
    if (typeof pool !== 'number' || typeof most !== 'number' || most >= pool) continue;
    add(
      `vm.classes.${name}.pool_max`,
      `found ${String(most)}, accepted: at least ${String(pool)}, the \`pool\` of that class`,
    );
  }
  const root = values['root'] ?? fallbacks.root;
  const state = values['state'] ?? fallbacks.state;
  const within = (inside: string, outside: string): boolean => `${inside}/`.startsWith(`${outside}/`);
  if (typeof root === 'string' && typeof state === 'string' && (within(root, state) || within(state, root))) {
    add('state', `found "${state}", accepted: a folder apart from root ("${root}")`);
  }
  const { tls_cert_file: certFile, tls_key_file: keyFile } = table(values['streaming']);
  if ((certFile === undefined) !== (keyFile === undefined)) {
    const [there, missing] =
      certFile === undefined ? ['tls_key_file', 'tls_cert_file'] : ['tls_cert_file', 'tls_key_file'];
    add(`streaming.${there}`, `found without streaming.${missing}, accepted: both or none`);
  }
  return problems;
}
