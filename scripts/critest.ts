/**
 * `npm run critest`: the conformance tests of CRI against kelyfos, with containerd for pods in host
 * namespaces: all of them, those of streaming once more over WebSockets, all again four at a time,
 * and all against containerd alone, to compare the times. docs/critest.md says what may be skipped.
 *
 *   --only whole,websocket,parallel,peer   some of these runs
 *   --peer                                 the same as --only peer
 *   --focus REGEX                          some of the specs
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Variant, runVariants, variants } from '../test/critest/variants.ts';
import { inPrivateHost, isPrivateHost } from '../test/harness/private-host.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    peer: { type: 'boolean', default: false },
    focus: { type: 'string' },
  },
});

function chosen(): readonly Variant[] {
  if (values.peer) return ['peer'];
  if (values.only === undefined) return variants;
  return values.only.split(',').map((name) => {
    const variant = variants.find((candidate) => candidate === name);
    if (variant === undefined) throw new Error(`--only: found "${name}", accepted: ${variants.join(', ')}`);
    return variant;
  });
}

if (isPrivateHost()) {
  const { passed, failed } = await runVariants(chosen(), values.focus);
  console.log(`${String(passed)} passed, ${String(failed)} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
} else {
  const script = join(import.meta.dirname, 'critest.ts');
  process.exitCode = (await inPrivateHost(script, process.argv.slice(2))).exitCode;
}
