import { messageOf } from './errors.ts';

/** One step that could not be undone. */
export interface FailedUndo {
  readonly label: string;
  readonly error: unknown;
}

/** Thrown by `unwind` when something stayed behind; names every step. */
export class UnwindError extends Error {
  override readonly name = 'UnwindError';
  readonly failures: readonly FailedUndo[];

  constructor(failures: readonly FailedUndo[]) {
    super(`could not undo ${failures.map((f) => `${f.label} (${messageOf(f.error)})`).join(', ')}`);
    this.failures = failures;
  }
}

/**
 * Undo steps of an operation that acquires several things. Register the undo before a step that can
 * half-succeed, after one that cannot; call `commit` last. `unwind` runs the steps in reverse, goes
 * on after a failure, and reports what it could not undo. The steps run on their own clock: they
 * must not use the signal of the request that failed.
 */
export class CleanupStack {
  #steps: { readonly label: string; readonly undo: () => Promise<void> }[] = [];

  defer(label: string, undo: () => Promise<void>): void {
    this.#steps.push({ label, undo });
  }

  /** Everything acquired is kept. */
  commit(): void {
    this.#steps = [];
  }

  async unwind(): Promise<void> {
    const failures: FailedUndo[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      const { label, undo } = step;
      await undo().catch((error: unknown) => failures.push({ label, error }));
    }
    if (failures.length > 0) throw new UnwindError(failures);
  }
}
