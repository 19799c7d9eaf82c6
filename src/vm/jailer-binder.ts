import { join } from 'node:path';
import { execa } from 'execa';
import { AppError } from '../platform/errors.ts';
import { jailPaths } from './qemu/jail-paths.ts';

const bindTimeoutMs = 10_000;

interface Binding {
  readonly source: string;
  readonly inShare: string;
  readonly readonly: 'no' | 'top' | 'all';
  readonly propagation: 'private' | 'slave';
  readonly owners?: { readonly uids: readonly IdMapping[]; readonly gids: readonly IdMapping[] };
}

interface IdMapping {
  readonly containerId: number;
  readonly hostId: number;
  readonly length: number;
}

function idList(mappings: readonly IdMapping[]): string {
  return mappings.map(({ containerId, hostId, length }) => [containerId, hostId, length].join(':')).join(',');
}

/** Binds volumes below a VM's share with `kelyfos-jailer bind`, which sets nodev and nosuid before the jail can see them. */
export class JailerBinder {
  readonly #jailer: string;

  constructor(jailer: string) {
    this.#jailer = jailer;
  }

  async bind({ pid }: { readonly pid: number }, binding: Binding): Promise<void> {
    const { source, inShare, readonly, propagation, owners } = binding;
    const argv = [
      ...['bind', '--jail', String(pid), '--propagation', propagation],
      ...(readonly === 'no' ? [] : ['--read-only', readonly]),
      ...(owners === undefined ? [] : ['--map-users', idList(owners.uids), '--map-groups', idList(owners.gids)]),
      ...[source, join(jailPaths.share, inShare)],
    ];
    const { failed, stderr, shortMessage } = await execa(this.#jailer, argv, { reject: false, timeout: bindTimeoutMs });
    if (failed) throw new AppError('internal', stderr === '' ? (shortMessage ?? 'failed') : stderr.slice(-500));
  }

  /** Why owners of files below a folder cannot be mapped; undefined when they can. */
  async obstacleToMapping(folder: string): Promise<string | undefined> {
    const { failed, stderr, shortMessage } = await execa(this.#jailer, ['mappable', folder], {
      reject: false,
      timeout: bindTimeoutMs,
    });
    return failed ? stderr || (shortMessage ?? 'failed') : undefined;
  }
}
