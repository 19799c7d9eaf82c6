import { fileURLToPath } from 'node:url';

/** Where set-up leaves it. */
export const mkfsErofs = fileURLToPath(new URL('../../libexec/mkfs.erofs', import.meta.url));
