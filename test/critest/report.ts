import { z } from 'zod';

/** One spec of a run, by its whole name. */
export interface Spec {
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it failed or skipped itself; empty when it was left out by a flag. */
  readonly reason: string;
  readonly seconds: number;
}

/** What is used of the report of ginkgo 2 (`-ginkgo.json-report`); times in nanoseconds. */
const reportShape = z.array(
  z.looseObject({
    SpecReports: z.array(
      z.looseObject({
        ContainerHierarchyTexts: z.array(z.string()).nullable(),
        LeafNodeType: z.string(),
        LeafNodeText: z.string(),
        State: z.string(),
        RunTime: z.number(),
        Failure: z.looseObject({ Message: z.string().optional() }).optional(),
      }),
    ),
  }),
);

function outcomeOf(state: string): Spec['outcome'] {
  // Besides `failed` there are panicked, timedout, interrupted, aborted, pending.
  return state === 'passed' || state === 'skipped' ? state : 'failed';
}

/** The specs of a report, and whatever else failed, such as the suite's set-up. */
export function readReport(json: string): readonly Spec[] {
  return reportShape
    .parse(JSON.parse(json))
    .flatMap(({ SpecReports }) => SpecReports)
    .filter(({ LeafNodeType, State }) => LeafNodeType === 'It' || outcomeOf(State) === 'failed')
    .map((spec) => ({
      name: [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText || spec.LeafNodeType].join(' '),
      outcome: outcomeOf(spec.State),
      reason: spec.Failure?.Message ?? '',
      seconds: spec.RunTime / 1e9,
    }));
}
