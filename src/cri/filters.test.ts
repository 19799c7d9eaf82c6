import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { newContainerId, newSandboxId } from '../podsandbox/ids.ts';
import type { Container, ContainerState, Sandbox, SandboxState } from '../podsandbox/model.ts';
import { filterContainers, filterSandboxes, hasLabels } from './filters.ts';

const label = fc.constantFrom('a', 'b', 'c', '__proto__', 'toString');
const labels = fc.dictionary(label, fc.constantFrom('', '1', '2'));
const sandboxIds = Array.from({ length: 3 }, newSandboxId);
const sandboxStates: readonly SandboxState[] = ['ready', 'notready'];
const containerStates: readonly ContainerState[] = ['created', 'running', 'exited', 'unknown'];

// Only what filters look at.
const sandboxes = fc.array(
  fc.record({ state: fc.constantFrom(...sandboxStates), labels }).map(({ state, labels: own }) => {
    return { id: newSandboxId(), state, config: { labels: own } } as unknown as Sandbox;
  }),
);
const containers = fc.array(
  fc
    .record({ state: fc.constantFrom(...containerStates), labels, sandboxId: fc.constantFrom(...sandboxIds) })
    .map(({ state, labels: own, sandboxId }) => {
      return { id: newContainerId(), sandboxId, state, config: { labels: own } } as unknown as Container;
    }),
);

describe('filters', () => {
  test('without conditions let everything pass', () => {
    fc.assert(
      fc.property(sandboxes, containers, (pods, all) => {
        expect(filterSandboxes(pods, { id: undefined, state: undefined, labels: {} })).toEqual(pods);
        expect(filterContainers(all, { id: undefined, sandboxId: undefined, state: undefined, labels: {} })).toEqual(
          all,
        );
      }),
    );
  });

  test('conditions add up: all together pass what each alone passes', () => {
    fc.assert(
      fc.property(
        containers,
        fc.option(fc.nat(), { nil: undefined }),
        fc.option(fc.constantFrom(...sandboxIds), { nil: undefined }),
        fc.option(fc.constantFrom(...containerStates), { nil: undefined }),
        labels,
        (all, pick, sandboxId, state, wanted) => {
          const id = pick === undefined ? undefined : (all[pick % Math.max(1, all.length)]?.id ?? null);
          const none = { id: undefined, sandboxId: undefined, state: undefined, labels: {} };
          const separately = [
            { ...none, id },
            { ...none, sandboxId },
            { ...none, state },
            { ...none, labels: wanted },
          ]
            .map((condition) => new Set(filterContainers(all, condition)))
            .reduce((left, right) => left.intersection(right), new Set(all));
          expect(filterContainers(all, { id, sandboxId, state, labels: wanted })).toEqual([...separately]);
        },
      ),
    );
  });

  test('states part the list', () => {
    fc.assert(
      fc.property(sandboxes, (pods) => {
        const parts = sandboxStates.flatMap((state) => filterSandboxes(pods, { id: undefined, state, labels: {} }));
        expect(new Set(parts)).toEqual(new Set(pods));
        expect(parts).toHaveLength(pods.length);
      }),
    );
  });

  test('an id that nothing has matches nothing', () => {
    fc.assert(
      fc.property(sandboxes, (pods) => {
        expect(filterSandboxes(pods, { id: null, state: undefined, labels: {} })).toEqual([]);
      }),
    );
  });

  test('labels: exactly the wanted pairs, also for names that objects have anyway', () => {
    fc.assert(
      fc.property(labels, labels, (own, wanted) => {
        const expected = Object.keys(wanted).every((key) => Object.keys(own).includes(key) && own[key] === wanted[key]);
        expect(hasLabels(own, wanted)).toBe(expected);
      }),
    );
    expect(hasLabels({}, { toString: 'x' })).toBe(false);
  });
});
