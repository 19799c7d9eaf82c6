import { execa } from 'execa';
import { AppError } from '../platform/errors.ts';

const bindTimeoutMs = 10_000;

/** Binds volumes below a VM's share with `kelyfos-jailer bind`, which sets nodev and nosuid before the jail can see them. */
export class JailerBinder {
  readonly #jailer: string;

  constructor(jailer: string) {
    this.#jailer = jailer;
  }

  async bind(
    source: string,
    target: string,
    options: { readonly readonly: boolean; readonly propagation: 'private' | 'slave' },
  ): Promise<void> {
    const argv = [
      'bind',
      ...(options.readonly ? ['--read-only'] : []),
      '--propagation',
      options.propagation,
      source,
      target,
    ];
    const { failed, stderr, shortMessage } = await execa(this.#jailer, argv, { reject: false, timeout: bindTimeoutMs });
    if (failed) throw new AppError('internal', stderr === '' ? (shortMessage ?? 'failed') : stderr.slice(-500));
  }
}
