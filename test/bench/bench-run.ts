/** What every benchmark is given beside its own options. */
export interface BenchRun {
  /** Where the figures go. */
  readonly jsonFile: string;
  readonly say: (text: string) => void;
  /** Ends it before the next step; everything is cleaned up. */
  readonly signal: AbortSignal;
}
