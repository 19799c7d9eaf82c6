import type { Circus } from '@jest/types';
import { TestEnvironment } from 'jest-environment-node';
import { type DaemonRegister, daemonRegisterKey } from './daemon-register.ts';

/** Prints what the daemons of a test file have to say when one of its tests fails. */
// eslint-disable-next-line no-restricted-syntax -- jest takes the default export.
export default class FailureEnvironment extends TestEnvironment {
  async handleTestEvent(event: Circus.AsyncEvent | Circus.SyncEvent): Promise<void> {
    const failed =
      event.name === 'hook_failure' || (event.name === 'test_done' && event.test.errors.length > 0) ? event : undefined;
    if (failed === undefined) return;
    const register = (this.global as unknown as Record<symbol, DaemonRegister | undefined>)[daemonRegisterKey];
    for (const daemon of register ?? []) process.stderr.write(await daemon.dump());
  }
}
