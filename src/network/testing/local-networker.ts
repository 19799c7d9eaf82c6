import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { text } from 'node:stream/consumers';
import type { RunningProgram } from '../cni/invoke.ts';
import type { JoiningPrograms } from '../pod-networks.ts';

/** Runs programs as kelyfos-networker does, without one. No namespace can be joined. */
export class LocalNetworker implements JoiningPrograms {
  run(program: string, environment: Readonly<Record<string, string>>, input: string): RunningProgram {
    const child = spawn(program, [], { detached: true, env: { ...process.env, ...environment } });
    child.stdin.on('error', () => undefined).end(input);
    const given = Promise.withResolvers<never>();
    child.once('error', (error) => {
      given.reject(error);
    });
    const end = Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise<{ code: number | null; signal: number | null }>((resolve) => {
        child.once('exit', (code, signal) => {
          resolve({ code, signal: signal === null ? null : constants.signals[signal] });
        });
      }),
    ]).then(([stdout, stderr, how]) => ({ stdout, stderr, ...how }));
    return {
      ended: Promise.race([end, given.promise]),
      kill: (signal) => {
        if (child.pid === undefined) return;
        try {
          process.kill(-child.pid, signal);
        } catch {
          // Nobody is left of the group.
        }
      },
      abandon: () => {
        given.reject(new Error('given up'));
      },
    };
  }

  join(namespace: string): Promise<unknown> {
    return Promise.reject(new Error(`open ${namespace}: no such file`));
  }
}
