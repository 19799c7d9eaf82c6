/** A TOML table, as opposed to a list, a date or a plain value. */
export function isPlainTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
