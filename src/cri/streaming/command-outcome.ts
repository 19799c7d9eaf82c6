/** How a command has ended, for its client. */
export type CommandOutcome = { readonly exitCode: number } | { readonly failure: string };

/**
 * As a metav1.Status in JSON; clients take the exit code from its details.
 * https://pkg.go.dev/k8s.io/apimachinery/pkg/apis/meta/v1#Status
 */
export function outcomeAsJson(outcome: CommandOutcome): string {
  const status = (): object => {
    if ('failure' in outcome) {
      return {
        metadata: {},
        status: 'Failure',
        message: outcome.failure,
        reason: 'InternalError',
        details: { causes: [{ message: outcome.failure }] },
        code: 500,
      };
    }
    if (outcome.exitCode === 0) return { metadata: {}, status: 'Success' };
    return {
      metadata: {},
      status: 'Failure',
      message: exitText(outcome.exitCode),
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: String(outcome.exitCode) }] },
    };
  };
  return JSON.stringify(status());
}

/** For clients older than v4: nothing when all went well. */
export function outcomeAsText(outcome: CommandOutcome): string {
  if ('failure' in outcome) return outcome.failure;
  return outcome.exitCode === 0 ? '' : exitText(outcome.exitCode);
}

function exitText(exitCode: number): string {
  return `command terminated with non-zero exit code: exit status ${String(exitCode)}`;
}
