import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { containerConfig, DomainFixture, never, until } from '../fakes/domain-fixture.ts';
import type { FakeGuest } from '../fakes/fake-guest.ts';
import type { FakeVm } from '../fakes/fake-vms.ts';
import type { ContainerId, SandboxId } from '../ids.ts';
import type { ContainerConfig, StreamSession, TerminalSize } from '../model.ts';

let fixture: DomainFixture;
let sandboxId: SandboxId;
let vm: FakeVm;
let guest: FakeGuest;

beforeEach(async () => {
  fixture = await DomainFixture.create();
  const pod = await fixture.runPod();
  sandboxId = pod.id;
  vm = pod.vm;
  guest = vm.agent;
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

class Sink extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

const streams = (some: Partial<StreamSession>): StreamSession => ({
  stdin: undefined,
  stdout: undefined,
  stderr: undefined,
  resizes: undefined,
  ...some,
});

async function running(more: Partial<ContainerConfig> = {}): Promise<ContainerId> {
  const { containers } = fixture.domain;
  const id = await containers.create(sandboxId, { ...containerConfig(), ...more }, never);
  await containers.start(id, never);
  return id;
}

test('exec gives output and exit code; a container that does not run has none', async () => {
  const { containers } = fixture.domain;
  const id = await running();
  const stdout = new Sink();
  expect(await containers.exec(id, ['false', 'x'], false, streams({ stdout }), never)).toEqual({ exitCode: 1 });
  expect(stdout.text).toBe('false x\n');
  guest.exit(id, { code: 0 });
  await until('it happens', () => containers.get(id).state === 'exited');
  const message = `container "${id}" is exited, not running`;
  await expect(containers.exec(id, ['x'], false, streams({}), never)).rejects.toThrow(message);
  await expect(containers.attach(id, streams({}), never)).rejects.toThrow(message);
  expect(() => containers.interactive(id)).toThrow(message);
});

test('attach: output from now on up to the exit, input and sizes', async () => {
  const { containers } = fixture.domain;
  const id = await running({ stdin: true, tty: true, stdinOnce: true });
  expect(containers.interactive(id)).toMatchObject({ tty: true, stdin: true });
  const [stdin, stdout, sizes] = [new PassThrough(), new Sink(), new PassThrough({ objectMode: true })];
  const session = streams({ stdin, stdout, resizes: sizes as AsyncIterable<TerminalSize> });
  const done = containers.attach(id, session, never);
  guest.write(id, 'stdout', 'one\n');
  await until('it happens', () => stdout.text === 'one\n');
  // The connection to the guest may be lost meanwhile.
  guest.loseConnection();
  guest.write(id, 'stdout', 'two\n');
  stdin.write('word');
  sizes.write({ width: 80, height: 24 });
  await until('it happens', () => guest.stdin.get(id) === 'word' && guest.sizes.length === 1);
  guest.write(id, 'stdout', 'last');
  guest.exit(id, { code: 3 });
  await done;
  expect(stdout.text).toBe('one\ntwo\nlast');
  expect(containers.get(id).state).toBe('exited');
});

test("attach ends with the end of input unless that is the end of the container's", async () => {
  const { containers } = fixture.domain;
  const id = await running({ stdin: true });
  await containers.attach(id, streams({ stdin: Readable.from([Buffer.from('a')]), stdout: new Sink() }), never);
  const stdout = new Sink();
  const again = containers.attach(id, streams({ stdin: Readable.from([Buffer.from('b')]), stdout }), never);
  await again;
  expect(guest.stdin.get(id)).toBe('ab');
});

test('attach ends when its client goes, when the container is removed, and with an error when its VM dies', async () => {
  const { containers } = fixture.domain;
  const id = await running();
  const gone = new AbortController();
  const going = containers.attach(id, streams({ stdout: new Sink() }), gone.signal);
  gone.abort();
  await expect(going).rejects.toMatchObject({ kind: 'cancelled' });
  // Removal kills it first, which is an end like any other.
  const removed = containers.attach(id, streams({ stdout: new Sink() }), never);
  await containers.remove(id);
  await removed;
  const other = await running();
  const lost = containers.attach(other, streams({ stdout: new Sink() }), never);
  vm.die('killed');
  await expect(lost).rejects.toMatchObject({ kind: 'unavailable' });
});

test('attach after the daemon was restarted', async () => {
  const id = await running();
  await fixture.restart();
  const stdout = new Sink();
  const done = fixture.domain.containers.attach(id, streams({ stdout }), never);
  guest.write(id, 'stdout', 'here');
  await until('it happens', () => stdout.text === 'here');
  guest.exit(id, { code: 0 });
  await done;
});

test('port-forward needs a sandbox that is ready, joins both directions, and tells of a refusal', async () => {
  const { sandboxes } = fixture.domain;
  const [there, back] = [new PassThrough(), new PassThrough()];
  const done = sandboxes.portForward(sandboxId, 80, Duplex.from({ readable: there, writable: back }), never);
  there.end('ping');
  await done;
  expect(String(back.read())).toBe('ping');
  expect(back.writableEnded).toBe(true);
  const broken = new PassThrough();
  broken.write('x');
  await sandboxes.portForward(sandboxId, 2, broken, never);
  expect(broken.destroyed).toBe(true);
  await expect(sandboxes.portForward(sandboxId, 1, new PassThrough(), never)).rejects.toThrow('connection refused');
  await sandboxes.stop(sandboxId);
  await expect(sandboxes.portForward(sandboxId, 80, new PassThrough(), never)).rejects.toMatchObject({
    kind: 'failed-precondition',
  });
});

test('a pod serves so many sessions: connections wait for one to end, commands are refused', async () => {
  const { sandboxes, containers } = fixture.domain;
  const id = await running();
  const ends = Array.from({ length: 193 }, () => new PassThrough());
  const done = ends.map(async (end) => {
    const stream = Duplex.from({ readable: end, writable: new PassThrough().resume() });
    await sandboxes.portForward(sandboxId, 80, stream, never);
  });
  await new Promise(setImmediate);
  const refused = containers.exec(id, ['true'], false, streams({}), never);
  await expect(refused).rejects.toThrow(`pod sandbox "${sandboxId}" has 192 streaming sessions already`);
  for (const end of ends) end.end();
  await Promise.all(done);
  expect(await containers.exec(id, ['true'], false, streams({}), never)).toEqual({ exitCode: 0 });
});
