/** One member of an initramfs. */
export interface CpioEntry {
  readonly path: string;
  /** Type and permissions as in st_mode. */
  readonly mode: number;
  readonly content?: Uint8Array;
  /** Of a device node. */
  readonly device?: readonly [major: number, minor: number];
}

export const fileMode = 0o100_000;
export const folderMode = 0o040_000;
export const characterDeviceMode = 0o020_000;

/**
 * An archive in cpio's "newc" format (linux/Documentation/driver-api/early-userspace/buffer-format.rst).
 * The same entries always give the same bytes: no times, no owners but root.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  const add = (bytes: Uint8Array): void => {
    parts.push(bytes, Buffer.alloc(-bytes.length & 3));
  };
  const trailer: CpioEntry = { path: 'TRAILER!!!', mode: 0 };
  for (const [index, { path, mode, content, device }] of [...entries, trailer].entries()) {
    const size = content?.length ?? 0;
    const name = Buffer.from(`${path}\0`);
    const links = (mode & folderMode) === 0 ? 1 : 2;
    const [major, minor] = device ?? [0, 0];
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    const fields = [index + 1, mode, 0, 0, links, 0, size, 0, 0, major, minor, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
    add(Buffer.concat([Buffer.from(header), name]));
    if (content !== undefined) add(content);
  }
  return Buffer.concat(parts);
}
