import { AppError } from '../platform/errors.ts';
import type { StringMap } from '../podsandbox/model.ts';

/** Checks of single fields. Every message names the field as the API spells it. */

export function invalid(field: string, text: string): AppError {
  return new AppError('invalid', `${field} ${text}`);
}

/** Something of the API that this version does not do: said, never ignored. */
export function unsupported(field: string, text: string): AppError {
  return new AppError('unimplemented', `${field}: ${text}`);
}

export function required<T>(message: T | null, field: string): T {
  if (message === null) throw invalid(field, 'is not set');
  return message;
}

export function nonEmpty(text: string, field: string): string {
  if (text === '') throw invalid(field, 'is empty');
  return plain(text, field);
}

/** What ends up in argv, environments and paths cannot hold a zero byte. */
export function plain(text: string, field: string): string {
  if (text.includes('\0')) throw invalid(field, 'holds a zero byte');
  return text;
}

/** Program and arguments. */
export function argv(words: readonly string[], field: string): readonly string[] {
  const [program] = words;
  if (program === undefined) throw invalid(field, 'is empty');
  nonEmpty(program, `${field}[0]`);
  words.forEach((word) => plain(word, field));
  return words;
}

export function absolute(path: string, field: string): string {
  if (!path.startsWith('/')) throw invalid(field, `"${path}" is not an absolute path`);
  return plain(path, field);
}

/** Goes into CNI arguments (key=value;…), file names and the log. */
export function objectName(text: string, field: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (!/^[^\s;=/\x00-\x1f\x7f]{1,253}$/.test(text)) {
    throw invalid(field, `"${text}" is not a name (1 to 253 characters, no space, "/", ";" or "=")`);
  }
  return text;
}

/** A 64-bit integer, which the loader hands out as decimal digits. */
export function int64(text: string): bigint {
  return BigInt(text);
}

/** The longest wait that timers can do, 24 days; clients mean "for ever" by more. */
const maxTimeoutSeconds = 2_147_483n;

/** Seconds of a time-out; negative ones count as 0. */
export function timeoutSeconds(text: string): number {
  const seconds = int64(text);
  if (seconds < 0n) return 0;
  return Number(seconds < maxTimeoutSeconds ? seconds : maxTimeoutSeconds);
}

/** A user or group id. */
export function unixId(text: string, field: string): number {
  const id = int64(text);
  // The last one, 2^32 - 1, means "leave it" to the kernel.
  if (id < 0n || id >= 0xffff_ffffn) throw invalid(field, `${text} is not a user or group id (0 to 4294967294)`);
  return Number(id);
}

export function stringMap(map: Readonly<Record<string, string>>): StringMap {
  return { ...map };
}

/** Enums come by name; a number is one that this version of the API does not know. */
export function enumValue<V extends string, T>(value: V, known: Readonly<Record<V, T>>, field: string): T {
  if (!Object.hasOwn(known, value)) throw invalid(field, `has the unknown value ${value}`);
  return known[value];
}
