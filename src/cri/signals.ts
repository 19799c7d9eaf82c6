import { enumValue } from './fields.ts';
import type { Signal } from './gen/cri-types.ts';

const named = {
  SIGNAL_SIGHUP: 1,
  SIGNAL_SIGINT: 2,
  SIGNAL_SIGQUIT: 3,
  SIGNAL_SIGILL: 4,
  SIGNAL_SIGTRAP: 5,
  SIGNAL_SIGABRT: 6,
  SIGNAL_SIGIOT: 6,
  SIGNAL_SIGBUS: 7,
  SIGNAL_SIGFPE: 8,
  SIGNAL_SIGKILL: 9,
  SIGNAL_SIGUSR1: 10,
  SIGNAL_SIGSEGV: 11,
  SIGNAL_SIGUSR2: 12,
  SIGNAL_SIGPIPE: 13,
  SIGNAL_SIGALRM: 14,
  SIGNAL_SIGTERM: 15,
  SIGNAL_SIGSTKFLT: 16,
  SIGNAL_SIGCHLD: 17,
  SIGNAL_SIGCLD: 17,
  SIGNAL_SIGCONT: 18,
  SIGNAL_SIGSTOP: 19,
  SIGNAL_SIGTSTP: 20,
  SIGNAL_SIGTTIN: 21,
  SIGNAL_SIGTTOU: 22,
  SIGNAL_SIGURG: 23,
  SIGNAL_SIGXCPU: 24,
  SIGNAL_SIGXFSZ: 25,
  SIGNAL_SIGVTALRM: 26,
  SIGNAL_SIGPROF: 27,
  SIGNAL_SIGWINCH: 28,
  SIGNAL_SIGIO: 29,
  SIGNAL_SIGPOLL: 29,
  SIGNAL_SIGPWR: 30,
  SIGNAL_SIGSYS: 31,
} as const;

/** First and last real-time signal that programs may use; the C library keeps 32 and 33 for itself. */
const realTime = { min: 34, max: 64 } as const;

/** Linux numbers by the API's names: SIGRTMIN+n up to 15, SIGRTMAX-n from 14 on. */
const numbers: Readonly<Record<string, number>> = {
  ...named,
  SIGNAL_SIGRTMIN: realTime.min,
  SIGNAL_SIGRTMAX: realTime.max,
  ...Object.fromEntries(
    Array.from({ length: 15 }, (_, i) => [`SIGNAL_SIGRTMINPLUS${String(i + 1)}`, realTime.min + i + 1]),
  ),
  ...Object.fromEntries(
    Array.from({ length: 14 }, (_, i) => [`SIGNAL_SIGRTMAXMINUS${String(i + 1)}`, realTime.max - i - 1]),
  ),
};

/** Where two names share a number, the one that came first above. */
const names = new Map<number, string>();
for (const [name, number] of Object.entries(numbers)) if (!names.has(number)) names.set(number, name);

/** Number of a stop signal, or undefined when the request leaves it to the image. */
export function parseSignal(signal: Signal, field: string): number | undefined {
  return signal === 'SIGNAL_RUNTIME_DEFAULT' ? undefined : enumValue(signal, numbers, field);
}

export function shapeSignal(number: number): Signal {
  return (names.get(number) ?? 'SIGNAL_RUNTIME_DEFAULT') as Signal;
}
