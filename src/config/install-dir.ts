import { fileURLToPath } from 'node:url';

/** The folder kelyfos is installed in: of package.json, bin/ and libexec/. No slash at the end. */
export const installDir = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
