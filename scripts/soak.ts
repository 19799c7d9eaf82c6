/** `npm run soak`: many pods, one after the other and side by side; fails if the daemon grows or something is left. */
import { Command, InvalidArgumentError } from 'commander';
import { soak } from '../test/soak/soak.ts';

/** What the daemon may grow by after it is warm. */
const growthMB = 20;

interface Options {
  readonly pods: number;
  readonly parallel: number;
  readonly warmUp: number;
}

function atLeastOne(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('accepted: a whole number from 1');
}

const program = new Command('soak')
  .option('--pods <number>', 'pods in all', atLeastOne, 200)
  .option('--parallel <number>', 'pods at a time', atLeastOne, 4)
  .option('--warm-up <number>', 'pods before growth counts', atLeastOne, 50)
  .parse();
const { pods, parallel, warmUp } = program.opts<Options>();
if (warmUp >= pods) program.error('--warm-up: there must be pods after it');

const { warmMB, endMB, secondsPerPod, leaks } = await soak({
  pods,
  parallel,
  warmUp,
  say: (text) => {
    console.error(text);
  },
});
for (const leak of leaks) console.log(`left behind: ${leak}`);
console.log(
  `${String(pods)} pods, ${String(parallel)} at a time, ${secondsPerPod.toFixed(1)} s each; ` +
    `daemon ${warmMB.toFixed(1)} MB after ${String(warmUp)}, ${endMB.toFixed(1)} MB at the end ` +
    `(may grow by ${String(growthMB)}); ${String(leaks.length)} things left behind`,
);
if (leaks.length > 0 || endMB - warmMB > growthMB) process.exitCode = 1;
