import { fileURLToPath } from 'node:url';

/** Where set-up leaves it. */
export const networkerProgram = fileURLToPath(new URL('../../libexec/kelyfos-networker', import.meta.url));
