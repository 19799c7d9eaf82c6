import { constants } from 'node:os';
import { expect, test } from '@jest/globals';
import { loadCriProto } from './proto.ts';
import { parseSignal, shapeSignal } from './signals.ts';
import type { Signal } from './gen/cri-types.ts';

const { value } = loadCriProto()['runtime.v1.Signal']?.type as { readonly value: readonly { readonly name: Signal }[] };
const names = value.map(({ name }) => name).filter((name) => name !== 'SIGNAL_RUNTIME_DEFAULT');

test('every signal of the API has a number, and the numbers are those of Linux', () => {
  const ordinary: Readonly<Record<string, number>> = constants.signals;
  expect(names).toHaveLength(65);
  for (const name of names) {
    const number = parseSignal(name, 'stop_signal');
    const known = ordinary[name.replace('SIGNAL_', '')];
    if (known === undefined) expect(name).toMatch(/^SIGNAL_SIG(RT|CLD)/);
    else expect(number).toBe(known);
  }
});

test('the way back gives the same number', () => {
  for (const name of names) {
    const number = parseSignal(name, 'stop_signal') ?? 0;
    expect(parseSignal(shapeSignal(number), 'stop_signal')).toBe(number);
  }
  expect(shapeSignal(0)).toBe('SIGNAL_RUNTIME_DEFAULT');
});
