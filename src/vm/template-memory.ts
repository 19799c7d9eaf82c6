import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { AppError, messageOf } from '../platform/errors.ts';
import { identify, isAlive, terminate, type ProcessIdentity } from '../platform/processes.ts';
import type { TemplateMemory } from './hypervisor.ts';

const readyTimeoutMs = 5_000;
const sealTimeoutMs = 5_000;
const terminateMs = 500;

/** Where memory lives whose only user may be gone. */
export interface HeldMemory extends TemplateMemory {
  readonly holder: ProcessIdentity;
}

/** Makes, seals and frees the memory files of templates. */
export interface TemplateMemories {
  create(name: string, bytes: number): Promise<HeldMemory>;
  /** Nobody can write to it afterwards. The template's QEMU must have ended. */
  seal(memory: HeldMemory): Promise<void>;
  /** The memory of a holder that an earlier daemon started, or undefined when it is gone. */
  find(holder: ProcessIdentity): Promise<HeldMemory | undefined>;
  /** Ends the holder. Clones that run keep what they have mapped; the memory goes with the last of them. */
  free(memory: HeldMemory): Promise<void>;
}

/**
 * A memory file without a name, kept open by a small process (`kelyfos-jailer hold`) that outlives
 * the daemon. Sealed it can be mapped privately by any number of clones and written by none.
 */
export class JailerMemories implements TemplateMemories {
  readonly #jailer: string;

  constructor(jailer: string) {
    this.#jailer = jailer;
  }

  async create(name: string, bytes: number): Promise<HeldMemory> {
    const child = spawn(this.#jailer, ['hold', '--name', name, '--size', String(bytes)], {
      detached: true,
      env: {},
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.unref();
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr = (stderr + chunk).slice(-4096)));
    const lines = createInterface({ input: child.stdout });
    try {
      await new Promise<void>((resolve, reject) => {
        const failed = (why: string): void => {
          reject(new AppError('internal', `hold template memory: ${why}${stderr && `: ${stderr.trim()}`}`));
        };
        const timer = setTimeout(() => {
          failed(`not ready within ${String(readyTimeoutMs)} ms`);
        }, readyTimeoutMs);
        const settle = (then: () => void): void => {
          clearTimeout(timer);
          then();
        };
        lines.once('line', (line) => {
          settle(() => {
            if (line === 'ready') resolve();
            else failed(`unexpected answer ${line}`);
          });
        });
        child.once('error', (error) => {
          settle(() => {
            failed(messageOf(error));
          });
        });
        child.once('close', (code) => {
          settle(() => {
            failed(`ended with code ${String(code)}`);
          });
        });
      });
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      lines.close();
      child.stdout.destroy();
      child.stderr.destroy();
    }
    const holder = child.pid === undefined ? undefined : await identify(child.pid);
    if (!holder) throw new AppError('internal', 'hold template memory: the holder ended at once');
    return held(holder);
  }

  async seal(memory: HeldMemory): Promise<void> {
    const result = await execa(this.#jailer, ['seal', memory.path], { reject: false, timeout: sealTimeoutMs });
    if (result.failed)
      throw new AppError(
        'internal',
        `seal template memory: ${result.stderr.slice(-4096) || String(result.shortMessage)}`,
      );
  }

  async find(holder: ProcessIdentity): Promise<HeldMemory | undefined> {
    return (await isAlive(holder)) ? held(holder) : undefined;
  }

  async free(memory: HeldMemory): Promise<void> {
    await terminate(memory.holder, terminateMs);
  }
}

function held(holder: ProcessIdentity): HeldMemory {
  return { holder, path: `/proc/${String(holder.pid)}/fd/3` };
}
