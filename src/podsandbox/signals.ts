import { constants } from 'node:os';

export const sigkill = 9;
const sigterm = 15;

/** Linux number of an image's StopSignal: "SIGQUIT", "QUIT", "3", "SIGRTMIN+3"; SIGTERM for anything else. */
export function signalNumber(name: string): number {
  if (/^\d+$/.test(name)) return inRange(Number(name));
  const upper = name.toUpperCase();
  const whole = upper.startsWith('SIG') ? upper : `SIG${upper}`;
  const [, base, sign, offset] = /^SIGRT(MIN|MAX)(?:([+-])(\d+))?$/.exec(whole) ?? [];
  if (base !== undefined) {
    const distance = Number(offset ?? 0) * (sign === '-' ? -1 : 1);
    return inRange((base === 'MIN' ? 34 : 64) + distance);
  }
  const known: Readonly<Record<string, number>> = constants.signals;
  return known[whole] ?? sigterm;
}

function inRange(number: number): number {
  return number >= 1 && number <= 64 ? number : sigterm;
}
