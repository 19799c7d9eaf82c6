import { AppError } from '../../../platform/errors.ts';

export type ArgumentValue = string | number | boolean | undefined;

/**
 * One value of a QEMU option such as `driver,name=value,...`. QEMU separates by comma and reads a
 * doubled comma as one; undefined leaves a property out, booleans become on and off.
 */
export function option(first: string, properties: Readonly<Record<string, ArgumentValue>>): string {
  const parts = [escape(first)];
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    parts.push(`${name}=${typeof value === 'boolean' ? (value ? 'on' : 'off') : escape(String(value))}`);
  }
  return parts.join(',');
}

function escape(value: string): string {
  if (value.includes('\0') || value.includes('\n'))
    throw new AppError('invalid', `qemu option holds a control character: ${JSON.stringify(value)}`);
  return value.replaceAll(',', ',,');
}

/** Throws unless `value` is a whole number within the bounds; `what` names it. */
export function requireRange(what: string, value: number, minimum: number, maximum: number): void {
  if (!Number.isSafeInteger(value) || value < minimum || value > maximum) {
    throw new AppError(
      'invalid',
      `${what} must be a whole number from ${String(minimum)} to ${String(maximum)}, not ${String(value)}`,
    );
  }
}
