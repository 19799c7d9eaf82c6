/** Named steps with their durations; parts of a step go into the trace it is given. */
export interface StepTrace {
  step<T>(name: string, work: (parts: StepTrace) => Promise<T>): Promise<T>;
}

/** For work that no request waits for. */
export const untraced: StepTrace = { step: (_name, work) => work(untraced) };
