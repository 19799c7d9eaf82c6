/**
 * `npm run bench -- start`: measures, prints tables with the targets beside the figures, and writes
 * everything to a file. A missed target is told and is no failure.
 */
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { benchStart } from '../test/bench/start.ts';

interface StartOptions {
  readonly runs: number;
  readonly pods: number;
  readonly json: string;
}

const results = join(import.meta.dirname, '../test/bench/results');
const began = performance.now();

function say(text: string): void {
  console.error(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

function atLeastOne(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('accepted: a whole number from 1');
}

async function start({ runs, pods, json }: StartOptions): Promise<void> {
  const interrupted = new AbortController();
  const interrupt = (): void => {
    say('interrupted, cleaning up');
    interrupted.abort();
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    await benchStart({ runs, pods, jsonFile: json, say, signal: interrupted.signal });
  } catch (error) {
    // Whatever went wrong after that, went wrong because of it.
    if (!interrupted.signal.aborted) throw error;
    process.exitCode = 130;
  }
}

const program = new Command('bench');
program
  .command('start')
  .description('how long a pod takes to start, and what it takes of the memory')
  .option('--runs <number>', 'pods to start in each way', atLeastOne, 20)
  .option('--pods <number>', 'idle pods to weigh', atLeastOne, 20)
  .option('--json <file>', 'where the figures go', join(results, 'start.json'))
  .action(start);
await program.parseAsync();
