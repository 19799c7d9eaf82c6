/** `npm run test:integration -- PATTERN`: test files whose path matches, all without a pattern; jest's flags work too. */
import { runIntegrationTests } from './integration-tests.ts';

const { passed, failed } = await runIntegrationTests(process.argv.slice(2));
console.log(`${String(passed)} passed, ${String(failed)} failed`);
process.exitCode = failed > 0 ? 1 : 0;
