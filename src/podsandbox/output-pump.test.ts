import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { silentLog } from '../platform/log.ts';
import { FakeGuest } from './fakes/fake-guest.ts';
import { OutputTap } from './interactive/output-tap.ts';
import { OutputPump, outputStart, type OutputCheckpoint } from './output-pump.ts';

const id = 'c1';
let folder: string;
let logPath: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kelyfos-pump-'));
  logPath = join(folder, 'app', '0.log');
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function runningGuest(): Promise<FakeGuest> {
  const guest = new FakeGuest();
  await guest.createContainer({ id, process: { argv: ['run'] } });
  await guest.startContainer(id);
  return guest;
}

/** A daemon's worth of state: what is saved survives into the next pump. */
class Daemon {
  checkpoint: OutputCheckpoint = outputStart;
  exits = 0;
  failSaves = false;
  /** A dead daemon saves nothing more. */
  dead = false;
  readonly exited = Promise.withResolvers<undefined>();

  pump(guest: FakeGuest): OutputPump {
    this.dead = false;
    return OutputPump.start({
      source: guest,
      containerId: id,
      logPath,
      checkpoint: this.checkpoint,
      save: (checkpoint) => {
        if (this.dead) return Promise.reject(new Error('dead'));
        this.checkpoint = checkpoint;
        return Promise.resolve();
      },
      onExit: () => {
        this.exits += 1;
        this.exited.resolve(undefined);
        return Promise.resolve();
      },
      log: silentLog(),
    });
  }
}

async function contents(path = logPath): Promise<string[]> {
  const text = await readFile(path, 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' ').slice(1).join(' '));
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; !(await holds()); turn += 1) {
    if (turn > 2000) throw new Error(`never: ${what}`);
    await new Promise(setImmediate);
  }
}

async function textOf(tap: OutputTap): Promise<string> {
  let text = '';
  for await (const { data } of tap) text += Buffer.from(data).toString();
  return text;
}

describe('output pump', () => {
  test('the log file is there as soon as it is opened, or cannot be', async () => {
    const guest = await runningGuest();
    const pump = new Daemon().pump(guest);
    await pump.opened();
    expect(await readFile(logPath, 'utf8')).toBe('');
    await pump.stop();

    await rm(join(folder, 'app'), { recursive: true });
    await writeFile(join(folder, 'app'), 'not a folder');
    const other = new Daemon().pump(guest);
    await other.opened();
    await other.stop();
  });

  test('writes what the container wrote, then reports the exit', async () => {
    const guest = await runningGuest();
    const daemon = new Daemon();
    daemon.pump(guest);
    guest.write(id, 'stdout', 'one\ntwo');
    guest.write(id, 'stderr', 'oops\n');
    guest.exit(id, { code: 3 });
    await daemon.exited.promise;
    expect(await contents()).toEqual(['stdout F one', 'stderr F oops', 'stdout P two']);
    expect(daemon.exits).toBe(1);
  });

  test('a tap gets everything from when it was made, and the log still gets all', async () => {
    const guest = await runningGuest();
    const daemon = new Daemon();
    const pump = daemon.pump(guest);
    await pump.opened();
    guest.write(id, 'stdout', 'before\n');
    await until('a line in the log', async () => (await contents()).length === 1);
    const tap = new OutputTap({ channels: new Set(['stdout', 'stderr'] as const) });
    pump.tap(tap);
    const reading = textOf(tap);
    const gone = new OutputTap({ channels: new Set(['stdout'] as const) });
    pump.tap(gone);
    pump.untap(gone);
    for (let n = 0; n < 20; n += 1) {
      guest.write(id, n % 2 === 0 ? 'stdout' : 'stderr', `${String(n)}\n`);
      if (n % 7 === 0) guest.loseConnection();
      await new Promise(setImmediate);
    }
    guest.exit(id, { code: 0 });
    const numbers = Array.from({ length: 20 }, (_, n) => String(n));
    expect(await reading).toBe(numbers.map((n) => `${n}\n`).join(''));
    // Whoever has seen the end of the output finds the container exited.
    expect(daemon.exits).toBe(1);
    expect((await contents()).map((line) => line.split(' ')[2])).toEqual(['before', ...numbers]);
    const late = new OutputTap({ channels: new Set(['stdout'] as const) });
    pump.tap(late);
    expect(await textOf(late)).toBe('');
  });

  test('a tap whose reader takes nothing cannot keep output from the log for long', async () => {
    const guest = await runningGuest();
    const daemon = new Daemon();
    const pump = daemon.pump(guest);
    const stuck = new OutputTap({ channels: new Set(['stdout'] as const), maxBytes: 4, patienceMs: 20 });
    pump.tap(stuck);
    for (let n = 0; n < 10; n += 1) guest.write(id, 'stdout', `${String(n)}\n`);
    guest.exit(id, { code: 0 });
    await daemon.exited.promise;
    expect(await contents()).toHaveLength(10);
    await expect(textOf(stuck)).rejects.toMatchObject({ kind: 'exhausted' });
  });

  test('loses and repeats nothing when the connection is lost again and again', async () => {
    const guest = await runningGuest();
    const daemon = new Daemon();
    daemon.pump(guest);
    for (let n = 0; n < 50; n += 1) {
      guest.write(id, 'stdout', `${String(n)}\n`);
      if (n % 7 === 0) guest.loseConnection();
      await new Promise(setImmediate);
    }
    guest.exit(id, { code: 0 });
    await daemon.exited.promise;
    expect(await contents()).toEqual(Array.from({ length: 50 }, (_, n) => `stdout F ${String(n)}`));
  });

  test('goes on where a killed daemon stopped, even between writing and recording', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.stringMatching(/^[ab\n]{1,9}$/), { maxLength: 5 }), { minLength: 1, maxLength: 6 }),
        async (lives) => {
          await rm(join(folder, 'app'), { recursive: true, force: true });
          const guest = await runningGuest();
          const daemon = new Daemon();
          for (const texts of lives) {
            const pump = daemon.pump(guest);
            for (const text of texts) guest.write(id, 'stdout', text);
            await new Promise(setImmediate);
            // From here on the daemon writes to the file but records nothing: the worst moment to die.
            daemon.dead = true;
            guest.write(id, 'stdout', 'x\ny');
            await new Promise(setImmediate);
            guest.loseConnection();
            await pump.stop();
          }
          daemon.pump(guest);
          guest.exit(id, { code: 0 });
          await daemon.exited.promise;
          const expected = lives.map((texts) => `${texts.join('')}x\ny`).join('');
          const actual = (await contents())
            .map((line) => line.slice('stdout F '.length) + (line.startsWith('stdout F') ? '\n' : ''))
            .join('');
          expect(actual).toBe(expected);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('output that comes while the file is reopened is not taken for written', async () => {
    const guest = await runningGuest();
    const daemon = new Daemon();
    const pump = daemon.pump(guest);
    guest.write(id, 'stdout', 'one\n');
    while (daemon.checkpoint.sequence < 1n) await new Promise(setImmediate);
    await rename(logPath, `${logPath}.1`);
    const reopened = pump.reopen();
    guest.write(id, 'stdout', 'two\n');
    await reopened;
    // The daemon dies here; whatever it had recorded is what its successor believes.
    daemon.dead = true;
    await new Promise(setImmediate);
    guest.loseConnection();
    await pump.stop();
    daemon.pump(guest);
    guest.exit(id, { code: 0 });
    await daemon.exited.promise;
    expect([...(await contents(`${logPath}.1`)), ...(await contents())]).toEqual(['stdout F one', 'stdout F two']);
  });

  test('goes on in a new file after reopen, without a gap', async () => {
    const guest = await runningGuest();
    const daemon = new Daemon();
    const pump = daemon.pump(guest);
    guest.write(id, 'stdout', 'before\n');
    while (daemon.checkpoint.sequence < 1n) await new Promise(setImmediate);
    await rename(logPath, `${logPath}.old`);
    await pump.reopen();
    guest.write(id, 'stdout', 'after\n');
    guest.exit(id, { code: 0 });
    await daemon.exited.promise;
    expect(await contents(`${logPath}.old`)).toEqual(['stdout F before']);
    expect(await contents()).toEqual(['stdout F after']);
  });
});
