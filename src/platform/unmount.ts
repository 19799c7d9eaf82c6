import { execa } from 'execa';
import { AppError } from './errors.ts';
import { mountsBelow } from './mount-table.ts';

const unmountTimeoutMs = 10_000;

/**
 * Detaches everything mounted strictly below a folder, last mounted first, and throws when
 * something stays: whoever deletes the folder afterwards must not delete into a mount.
 */
export async function unmountBelow(folder: string): Promise<void> {
  const below = async (): Promise<string[]> => (await mountsBelow(folder)).filter((point) => point !== folder);
  for (const point of (await below()).reverse()) {
    const result = await execa('umount', ['-l', '--', point], { reject: false, timeout: unmountTimeoutMs });
    // With shared propagation it may have gone together with another one.
    if (result.failed && (await below()).includes(point)) {
      throw new AppError('internal', `unmount ${point}: ${result.stderr.slice(-500) || String(result.shortMessage)}`);
    }
  }
  const left = await below();
  if (left.length > 0) throw new AppError('internal', `still mounted below ${folder}: ${left.join(', ')}`);
}
