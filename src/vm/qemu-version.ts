import { execa } from 'execa';
import { AppError, wrap } from '../platform/errors.ts';

/** The oldest QEMU whose behaviour this driver has been tested with. */
const oldest = { major: 7, minor: 2 };

export interface QemuVersion {
  /** e.g. "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"; a template made by another one is not usable. */
  readonly text: string;
  readonly major: number;
  readonly minor: number;
}

export async function qemuVersion(binary: string): Promise<QemuVersion> {
  let output: string;
  try {
    output = (await execa(binary, ['--version'], { timeout: 10_000 })).stdout;
  } catch (error) {
    throw wrap(error, `run ${binary} --version`, 'failed-precondition');
  }
  return parseQemuVersion(binary, output);
}

export function parseQemuVersion(binary: string, output: string): QemuVersion {
  const match = /^QEMU emulator version ((\d+)\.(\d+)\S*(?: \([^)]*\))?)/.exec(output);
  const [, text, major, minor] = match ?? [];
  if (text === undefined) throw new AppError('failed-precondition', `${binary} is not qemu: ${output.slice(0, 100)}`);
  const version = { text, major: Number(major), minor: Number(minor) };
  if (version.major < oldest.major || (version.major === oldest.major && version.minor < oldest.minor)) {
    throw new AppError(
      'failed-precondition',
      `qemu ${text} is too old: ${String(oldest.major)}.${String(oldest.minor)} or newer is needed`,
    );
  }
  return version;
}
