import { fileURLToPath } from 'node:url';

/** Where set-up leaves it. */
export const unpacker = fileURLToPath(new URL('../../libexec/kelyfos-unpacker', import.meta.url));
