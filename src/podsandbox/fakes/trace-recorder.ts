import type { TraceSink } from '../trace-model.ts';

interface Ended {
  readonly request: string;
  readonly error: string | undefined;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Remembers what it is told. */
export class TraceRecorder {
  readonly ended: Ended[] = [];
  readonly late: string[] = [];

  readonly sink: TraceSink = {
    ended: ({ attributes }, { request }, error) => {
      this.ended.push({ request, error, attributes });
    },
    later: (_subject, { request }, { name }) => {
      this.late.push(`${request}: ${name}`);
    },
  };
}
