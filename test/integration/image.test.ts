import { randomBytes } from 'node:crypto';
import { link, mkdtemp, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';
import pino from 'pino';
import { RegistryImages, type ImagesOptions } from '../../src/image/images.ts';
import { freeFolder, removeFolder } from '../harness/free-folder.ts';
import { mkfsErofs } from '../harness/mkfs-erofs.ts';
import { unpacker } from '../harness/unpacker.ts';
import { writeOciLayout } from '../harness/oci-layout.ts';
import { TestRegistry } from '../harness/registry.ts';
import { ScriptedRegistry, gzipLayer, mediaTypes, type LayerBytes } from '../harness/scripted-registry.ts';
import { startProcess } from '../harness/started-process.ts';
import { writeTar } from '../harness/tar-stream.ts';

const maxUnpackedBytes = 2 ** 30;
const arch = process.arch === 'arm64' ? 'arm64' : 'amd64';

let base: string;
let scripted: ScriptedRegistry;
let logged = '';

beforeAll(async () => {
  base = await freeFolder('image');
  scripted = await ScriptedRegistry.start();
});
afterAll(async () => {
  await scripted[Symbol.asyncDispose]();
  await removeFolder(base);
});
afterEach(() => {
  scripted.intercept = () => false;
  scripted.requests.length = 0;
});

const forever = (): AbortSignal => AbortSignal.timeout(60_000);
const newFolder = async (): Promise<string> => join(await mkdtemp(join(base, 'store-')), 'images');

/** A configuration for the tests' registries, whose hosts have no TLS. */
async function registriesConf(text: string): Promise<string> {
  const file = join(await mkdtemp(join(base, 'conf-')), 'registries.conf');
  await writeFile(file, text);
  return file;
}

async function open(more: Partial<ImagesOptions> = {}): Promise<RegistryImages> {
  const log = pino({ level: 'trace' }, { write: (line: string) => (logged += line) });
  const folder = more.folder ?? (await newFolder());
  return await RegistryImages.open({
    ...{ folder, disksFolder: join(folder, '../vms'), pinned: [] },
    registriesConf: await registriesConf(scripted.registriesConf),
    ...{ skopeo: 'skopeo', mkfsErofs, unpacker, maxUnpackedBytes, stallMs: 20_000, secretsDir: '/dev/shm', log },
    ...more,
  });
}

const tarOfFile = (name: string, content: string | Uint8Array): Buffer =>
  writeTar([{ name, type: 'file', data: content }]);
const layer = (name: string, content: string | Uint8Array): LayerBytes => gzipLayer(tarOfFile(name, content));
const unique = (): string => randomBytes(8).toString('hex');

async function blobsOf(folder: string): Promise<string[]> {
  return (await readdir(join(folder, 'blobs/sha256'))).map((hex) => `sha256:${hex}`).sort();
}

async function errorOf(work: Promise<unknown>): Promise<{ readonly kind: string; readonly message: string }> {
  return await work.then(
    () => {
      throw new Error('it worked');
    },
    (error: unknown) => error as { kind: string; message: string },
  );
}

/** Nothing is left of a pull: no staging, no image, no blob. */
async function expectNothing(images: RegistryImages, folder: string): Promise<void> {
  expect(images.list()).toEqual([]);
  expect(await readdir(join(folder, 'staging'))).toEqual([]);
  expect(await readdir(join(folder, 'rootfs'))).toEqual([]);
  expect(await blobsOf(folder)).toEqual([]);
}

test('an image is pulled, found by every name, survives a restart and is removed by any name', async () => {
  await using registry = await TestRegistry.start();
  const layout = await mkdtemp(join(base, 'layout-'));
  const made = await writeOciLayout(layout, [tarOfFile('hello', 'world')], {
    Cmd: ['/hello'],
    User: '1000:1000',
    Env: ['A=b'],
    Labels: { one: 'two' },
    StopSignal: 'SIGQUIT',
  });
  const reference = await registry.push(layout, 'library/app:1');
  const repository = `${registry.host}/library/app`;
  const folder = await newFolder();
  const options = { folder, registriesConf: await registriesConf(registry.registriesConf) };
  let images = await open(options);
  const id = await images.pull(reference, undefined, forever());
  expect(id).toBe(made.configDigest);
  expect(await images.pull(`${repository}@${made.manifestDigest}`, undefined, forever())).toBe(id);
  expect(await images.pull(`${repository}:1@${made.manifestDigest}`, undefined, forever())).toBe(id);
  expect(await images.pull(id, undefined, forever())).toBe(id);

  images = await open(options);
  const expected = {
    ...{ id, repoTags: [reference], repoDigests: [`${repository}@${made.manifestDigest}`], pinned: false },
    config: {
      cmd: ['/hello'],
      user: '1000:1000',
      env: ['A=b'],
      labels: { one: 'two' },
      stopSignal: 'SIGQUIT',
      entrypoint: [],
    },
    spec: { os: 'linux', config: { Cmd: ['/hello'] } },
  };
  const hex = id.slice('sha256:'.length);
  const names = [
    reference,
    `${repository}:1@${made.manifestDigest}`,
    id,
    hex,
    hex.slice(0, 13),
    `sha256:${hex.slice(0, 12)}`,
  ];
  for (const name of names) expect(images.find(name)).toMatchObject(expected);
  expect(images.find(`${repository}:2`)).toBeUndefined();
  expect(images.find(repository)).toBeUndefined();
  expect(images.list()).toHaveLength(1);
  expect(images.find(id)?.sizeBytes).toBeGreaterThanOrEqual(4096n);
  expect((await stat(images.rootfs(id))).size).toBe(maxUnpackedBytes);

  const {
    mountpoint,
    images: { usedBytes, inodesUsed },
    at,
  } = await images.fsInfo();
  expect(mountpoint).toBe(folder);
  expect(usedBytes).toBeGreaterThan(8_000n);
  expect(usedBytes).toBeLessThan(200_000n);
  expect(inodesUsed).toBeGreaterThan(3n);
  expect(Date.now() - at.getTime()).toBeLessThan(5_000);

  // A VM holds a link of its own, so removal does it no harm.
  const held = join(base, unique());
  await link(images.rootfs(id), held);
  await images.remove(hex.slice(0, 13));
  await images.remove(reference);
  await expectNothing(images, folder);
  expect(() => images.rootfs(id)).toThrow('is not here');
  expect((await stat(held)).size).toBe(maxUnpackedBytes);
  expect((await open(options)).list()).toEqual([]);
});

test('ten pulls at once fetch every blob once', async () => {
  await using registry = await TestRegistry.start();
  const shared = Array.from({ length: 3 }, (_, i) => tarOfFile(`shared-${String(i)}`, randomBytes(400_000)));
  const references = await Promise.all(
    Array.from({ length: 5 }, async (_, i) => {
      const layout = await mkdtemp(join(base, 'layout-'));
      // In different orders, so that careless locking would end in a deadlock.
      const order = i % 2 === 0 ? shared : shared.toReversed();
      await writeOciLayout(layout, [...order, tarOfFile('own', unique())], { Cmd: [`/${String(i)}`] });
      return await registry.push(layout, `app-${String(i % 2)}:${String(i)}`);
    }),
  );
  const images = await open({ registriesConf: await registriesConf(registry.registriesConf) });
  const before = (await registry.log()).length;
  const ids = await Promise.all([...references, ...references].map((name) => images.pull(name, undefined, forever())));
  expect(new Set(ids).size).toBe(5);
  expect(ids.slice(0, 5)).toEqual(ids.slice(5));
  expect(images.list()).toHaveLength(5);
  const log = (await registry.log()).slice(before);
  const fetched = [...log.matchAll(/"GET \/v2\/\S+\/blobs\/(sha256:[0-9a-f]+) HTTP\/1.1" 200/g)].map(
    (match) => match[1],
  );
  // Three shared layers; of each image a layer and a configuration.
  expect(fetched).toHaveLength(13);
  expect(new Set(fetched).size).toBe(13);
});

test('a tag that moves leaves the old image without it; shared blobs stay while they are needed', async () => {
  const folder = await newFolder();
  const images = await open({ folder });
  const common = layer('common', unique());
  const old = scripted.image('moving', 'latest', [common, layer('a', unique())]);
  const first = await images.pull(`${scripted.host}/moving`, undefined, forever());
  const now = scripted.image('moving', 'latest', [common, layer('b', unique())]);
  const second = await images.pull(`${scripted.host}/moving:latest`, undefined, forever());
  expect([first, second]).toEqual([old.config.digest, now.config.digest]);
  expect(images.find(first)).toMatchObject({
    repoTags: [],
    repoDigests: [`${scripted.host}/moving@${old.manifest.digest}`],
  });
  expect(images.find(`${scripted.host}/moving`)).toMatchObject({
    id: second,
    repoTags: [`${scripted.host}/moving:latest`],
  });
  expect(scripted.fetches(old.layers[0]?.digest ?? '')).toBe(1);
  await images.remove(first);
  expect(await blobsOf(folder)).toEqual([now.config, ...now.layers].map((d) => d.digest).sort());
  await images.remove(`${scripted.host}/moving@${now.manifest.digest}`);
  await expectNothing(images, folder);
});

test('a pull that is cancelled ends at once and leaves nothing', async () => {
  const folder = await newFolder();
  const images = await open({ folder });
  const { layers } = scripted.image('slow', '1', [layer('a', unique()), layer('b', randomBytes(300_000))]);
  const [, slow] = layers;
  const reached = Promise.withResolvers<undefined>();
  scripted.intercept = (request, response) => {
    if (request.url?.endsWith(slow?.digest ?? '') !== true) return false;
    response.writeHead(200, { 'content-length': slow?.size }).write('a few bytes');
    reached.resolve(undefined);
    return true;
  };
  const cancelled = new AbortController();
  const pull = errorOf(images.pull(`${scripted.host}/slow:1`, undefined, cancelled.signal));
  await reached.promise;
  // One that waits for the first one's blobs is let go as well.
  const second = errorOf(images.pull(`${scripted.host}/slow:1`, undefined, cancelled.signal));
  await delay(500);
  const started = performance.now();
  cancelled.abort();
  expect((await pull).kind).toBe('cancelled');
  expect((await second).kind).toBe('cancelled');
  expect(performance.now() - started).toBeLessThan(1_000);
  await expectNothing(images, folder);
  expect((await execa('pgrep', ['-af', `skopeo.*${scripted.host}`], { reject: false })).stdout).toBe('');
  scripted.intercept = () => false;
  await images.pull(`${scripted.host}/slow:1`, undefined, forever());
});

test('a pull that gets nowhere is given up', async () => {
  const folder = await newFolder();
  const images = await open({ folder, stallMs: 1_500 });
  const { layers } = scripted.image('stuck', '1', [layer('a', randomBytes(100_000))]);
  scripted.intercept = (request, response) => {
    if (request.url?.endsWith(layers[0]?.digest ?? '') !== true) return false;
    response.writeHead(200, { 'content-length': layers[0]?.size }).write('a few bytes');
    return true;
  };
  const started = performance.now();
  const error = await errorOf(images.pull(`${scripted.host}/stuck:1`, undefined, forever()));
  expect(error).toMatchObject({
    kind: 'unavailable',
    message: expect.stringMatching(/^RegistryUnavailable: .*no progress for/),
  });
  expect(performance.now() - started).toBeLessThan(6_000);
  await expectNothing(images, folder);
});

test('a layer is worked on while the next one still comes', async () => {
  const folder = await newFolder();
  const images = await open({ folder });
  const { layers } = scripted.image('early', '1', [layer('a', unique()), layer('b', unique())]);
  const [, late] = layers;
  const made = async (): Promise<boolean> =>
    (await readdir(join(folder, 'staging'), { recursive: true })).some((name) => name.endsWith('image.erofs'));
  scripted.intercept = async (request) => {
    if (request.url?.endsWith(late?.digest ?? '') !== true) return false;
    while (!(await made())) await delay(10);
    return false;
  };
  await images.pull(`${scripted.host}/early:1`, undefined, AbortSignal.timeout(20_000));
  expect(images.list()).toHaveLength(1);
});

test('a slow pull that moves is not given up', async () => {
  const images = await open({ stallMs: 1_500 });
  const { layers } = scripted.image('drip', '1', [layer('a', randomBytes(100_000))]);
  scripted.intercept = async (request, response) => {
    if (request.url?.endsWith(layers[0]?.digest ?? '') !== true) return false;
    const { bytes } = dripped;
    response.writeHead(200, { 'content-length': bytes.length });
    for (let at = 0; at < bytes.length; at += 20_000) {
      response.write(bytes.subarray(at, at + 20_000));
      await delay(700);
    }
    response.end();
    return true;
  };
  const dripped = { bytes: scripted.bytesOf(layers[0]?.digest ?? '') };
  await images.pull(`${scripted.host}/drip:1`, undefined, forever());
});

test.each(['while it downloads', 'while it converts'])(
  'SIGKILL %s leaves nothing and the next pull works',
  async (when) => {
    const folder = await newFolder();
    const conf = await registriesConf(scripted.registriesConf);
    const name = `torn-${unique()}`;
    const big = layer('big', Buffer.alloc(300 << 20, 1));
    const { layers } = scripted.image(name, '1', [layer('a', unique()), big]);
    const reached = Promise.withResolvers<undefined>();
    scripted.intercept = (request, response) => {
      if (request.url?.endsWith(layers[1]?.digest ?? '') !== true || when !== 'while it downloads') return false;
      response.writeHead(200, { 'content-length': layers[1]?.size }).write('a few bytes');
      reached.resolve(undefined);
      return true;
    };
    const script = new URL('../harness/pull-image.ts', import.meta.url).pathname;
    const logFile = join(base, unique());
    const child = await startProcess(process.execPath, [script, folder, conf, `${scripted.host}/${name}:1`], {
      logFile,
    });
    const staged = async (): Promise<string> =>
      (await readdir(join(folder, 'staging'), { recursive: true }).catch(() => [])).join();
    if (when === 'while it downloads') await reached.promise;
    else for (let i = 0; i < 600 && !(await staged()).includes('image.erofs'); i += 1) await delay(10);
    await delay(50);
    expect(await staged()).not.toBe('');
    child.signal('SIGKILL');
    await child.ended(5_000);
    await delay(200);
    // What it had started went with it.
    expect((await execa('pgrep', ['-af', `skopeo.*${name}|tar=f`], { reject: false })).stdout).toBe('');

    scripted.intercept = () => false;
    const images = await open({ folder, registriesConf: conf });
    await expectNothing(images, folder);
    await images.pull(`${scripted.host}/${name}:1`, undefined, forever());
    expect(images.list()).toHaveLength(1);
  },
);

const noAuth = { username: '', password: '', auth: '', serverAddress: '', identityToken: '', registryToken: '' };

/** Everything that other processes could see of a secret. */
async function exposures(secrets: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    for (const file of ['cmdline', 'environ']) {
      const text = await readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '');
      if (secrets.some((secret) => text.includes(secret))) found.push(`${pid}/${file}`);
    }
  }
  return found;
}

test('credentials reach the registry and nobody else', async () => {
  const folder = await newFolder();
  const images = await open({ folder });
  const password = `secret-${unique()}`;
  const basic = Buffer.from(`user:${password}`).toString('base64');
  const { layers } = scripted.image('private', '1', [layer('a', unique())]);
  const seen: string[] = [];
  let shmDuring: string[] = [];
  scripted.intercept = async (request, response) => {
    if (request.headers.authorization !== `Basic ${basic}`) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
      return true;
    }
    // Looked at while skopeo is at work.
    seen.push(...(await exposures([password, basic])));
    shmDuring = shmDuring.concat((await readdir('/dev/shm')).filter((name) => name.startsWith('kelyfos')));
    return false;
  };
  const reference = `${scripted.host}/private:1`;
  for (const auth of [undefined, { ...noAuth, username: 'user', password: 'wrong' }]) {
    const error = await errorOf(images.pull(reference, auth, forever()));
    expect(error).toMatchObject({
      kind: 'failed-precondition',
      message: expect.stringContaining('not authorised to pull'),
    });
  }
  // Meant for another registry: not sent.
  const elsewhere = { ...noAuth, username: 'user', password, serverAddress: 'https://registry.example/v2/' };
  await errorOf(images.pull(reference, elsewhere, forever()));
  expect(scripted.fetches(layers[0]?.digest ?? '')).toBe(0);

  const given = { ...noAuth, username: 'user', password, serverAddress: `http://${scripted.host}` };
  await images.pull(reference, given, forever());
  await images.remove(reference);
  await images.pull(reference, { ...noAuth, auth: basic }, forever());
  expect(scripted.fetches(layers[0]?.digest ?? '')).toBe(2);
  expect(seen).toEqual([]);
  expect(shmDuring).toEqual([]);
  expect(logged).not.toContain(password);
  expect(logged).not.toContain(basic);
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const file of files.filter((f) => f.isFile() && f.name.endsWith('.json'))) {
    expect(await readFile(join(file.parentPath, file.name), 'latin1')).not.toContain(password);
  }
});

test('an identity token is exchanged for access; a registry token is refused rather than shown', async () => {
  const images = await open();
  scripted.image('tokens', '1', [layer('a', unique())]);
  const asked: string[] = [];
  scripted.intercept = async (request, response) => {
    if (request.url?.startsWith('/token') === true) {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      asked.push(body);
      response.end(JSON.stringify({ access_token: 'short-lived', token: 'short-lived' }));
      return true;
    }
    if (request.headers.authorization === 'Bearer short-lived') return false;
    const realm = `Bearer realm="http://${scripted.host}/token",service="test"`;
    response.writeHead(401, { 'www-authenticate': realm }).end('{}');
    return true;
  };
  const identityToken = `identity-${unique()}`;
  await images.pull(`${scripted.host}/tokens:1`, { ...noAuth, identityToken }, forever());
  expect(asked[0]).toContain(`refresh_token=${identityToken}`);
  const registryToken = `bearer-${unique()}`;
  const error = await errorOf(images.pull(`${scripted.host}/tokens:1`, { ...noAuth, registryToken }, forever()));
  expect(error.kind).toBe('unimplemented');
  expect(error.message).not.toContain(registryToken);
});

test('mirrors of registries.conf are used', async () => {
  const conf = `[[registry]]\nlocation = "upstream.invalid"\n[[registry.mirror]]\nlocation = "${scripted.host}/mirrored"\ninsecure = true\n`;
  const images = await open({ registriesConf: await registriesConf(conf) });
  const made = scripted.image('mirrored/team/app', '3', [layer('a', unique())]);
  expect(await images.pull('upstream.invalid/team/app:3', undefined, forever())).toBe(made.config.digest);
  expect(images.list()[0]?.repoTags).toEqual(['upstream.invalid/team/app:3']);
});

test('of a manifest list the image for this machine is taken', async () => {
  const images = await open();
  const ours = scripted.image('multi', undefined, [layer('ours', unique())]);
  const theirs = scripted.image('multi', undefined, [layer('theirs', unique())], { architecture: 's390x' });
  const list = scripted.document('multi', 'all', mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: [
      { ...theirs.manifest, platform: { os: 'linux', architecture: 's390x' } },
      { ...ours.manifest, platform: { os: 'linux', architecture: arch } },
    ],
  });
  for (const name of [`${scripted.host}/multi:all`, `${scripted.host}/multi@${list.digest}`]) {
    expect(await images.pull(name, undefined, forever())).toBe(ours.config.digest);
  }
  // The digest is that of what was asked for.
  expect(images.list()[0]?.repoDigests).toEqual([`${scripted.host}/multi@${list.digest}`]);
  expect(scripted.fetches(theirs.layers[0]?.digest ?? '')).toBe(0);

  scripted.document('multi', 'other', mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: [{ ...theirs.manifest, platform: { os: 'linux', architecture: 's390x' } }],
  });
  const error = await errorOf(images.pull(`${scripted.host}/multi:other`, undefined, forever()));
  expect(error).toMatchObject({ kind: 'not-found', message: expect.stringContaining('only for linux/s390x') });
  const single = await errorOf(images.pull(`${scripted.host}/multi@${theirs.manifest.digest}`, undefined, forever()));
  expect(single.message).toContain('is for linux/s390x');
});

test("docker's manifests work, with compressed layers and without", async () => {
  const images = await open();
  const tar = tarOfFile('a', unique());
  const forms = { gzip: [mediaTypes.dockerGzip, gzipSync(tar)], plain: [mediaTypes.dockerTar, tar] } as const;
  for (const [tag, [mediaType, bytes]] of Object.entries(forms)) {
    const made = scripted.image('docker', tag, [{ mediaType, bytes, tar }]);
    expect(await images.pull(`${scripted.host}/docker:${tag}`, undefined, forever())).toBe(made.config.digest);
    expect(images.find(`${scripted.host}/docker:${tag}`)?.repoDigests).toContain(
      `${scripted.host}/docker@${made.manifest.digest}`,
    );
  }
});

test('OCI layers may be zstd or plain', async () => {
  const { zstdCompressSync } = await import('node:zlib');
  const images = await open();
  const tar = tarOfFile('a', unique());
  const other = tarOfFile('b', unique());
  scripted.image('forms', '1', [
    { mediaType: mediaTypes.zstd, bytes: zstdCompressSync(tar), tar },
    { mediaType: mediaTypes.tar, bytes: other, tar: other },
  ]);
  await images.pull(`${scripted.host}/forms:1`, undefined, forever());
});

test.each([
  ['other bytes of the same length', (bytes: Uint8Array) => Buffer.from(bytes).fill(7)],
  ['fewer bytes', (bytes: Uint8Array) => bytes.subarray(0, bytes.length / 2)],
  ['more bytes', (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc(100)])],
])('a registry that sends %s for a layer is found out', async (_, change) => {
  const folder = await newFolder();
  const images = await open({ folder, stallMs: 5_000 });
  const made = scripted.image('hostile', unique(), [layer('a', randomBytes(5_000))]);
  const digest = made.layers[0]?.digest ?? '';
  scripted.replaceBlob(digest, change(scripted.bytesOf(digest)));
  const error = await errorOf(images.pull(`${scripted.host}/hostile@${made.manifest.digest}`, undefined, forever()));
  expect(['failed-precondition', 'unavailable', 'internal']).toContain(error.kind);
  await expectNothing(images, folder);
});

test('hostile manifests and layers are errors that name what is wrong', async () => {
  const folder = await newFolder();
  const images = await open({ folder });
  const broken = tarOfFile('a', randomBytes(5_000)).subarray(0, 2_000);
  scripted.image('bad', 'cut', [{ mediaType: mediaTypes.gzip, bytes: gzipSync(broken), tar: broken }]);
  scripted.image('bad', 'noise', [{ mediaType: mediaTypes.gzip, bytes: randomBytes(5_000) }]);
  // The id of an image vouches for its content: other layers must not get in under it.
  scripted.image('bad', 'forged', [{ ...layer('evil', 'x'), tar: tarOfFile('good', 'x') }]);
  scripted.image('bad', 'fewer', [layer('a', 'x')], { rootfs: { type: 'layers', diff_ids: [] } });
  scripted.document('bad', 'schema1', 'application/vnd.docker.distribution.manifest.v1+json', {
    schemaVersion: 1,
    fsLayers: [],
  });
  scripted.document('bad', 'shape', mediaTypes.manifest, {
    schemaVersion: 2,
    config: { digest: '../../etc' },
    layers: [],
  });
  const expected = {
    cut: 'not a proper tar',
    noise: 'corrupt image',
    forged: 'not what the configuration says',
    fewer: 'other layers than its configuration',
    schema1: 'schema 1',
    shape: 'malformed',
  };
  for (const [tag, text] of Object.entries(expected)) {
    const error = await errorOf(images.pull(`${scripted.host}/bad:${tag}`, undefined, forever()));
    expect(error).toMatchObject({ kind: 'failed-precondition', message: expect.stringContaining(text) });
  }
  await expectNothing(images, folder);
});

test('errors say whose fault it is, as the kubelet wants it', async () => {
  const images = await open();
  scripted.image('here', '1', [layer('a', unique())]);
  const pull = (name: string): Promise<{ kind: string; message: string }> =>
    errorOf(images.pull(name, undefined, forever()));
  expect(await pull('127.0.0.1:1/x:1')).toMatchObject({
    kind: 'unavailable',
    message: expect.stringMatching(/^RegistryUnavailable: /),
  });
  expect(await pull('nowhere.invalid/x:1')).toMatchObject({
    kind: 'unavailable',
    message: expect.stringMatching(/^RegistryUnavailable: /),
  });
  expect(await pull(`${scripted.host}/here:2`)).toMatchObject({ kind: 'not-found' });
  expect(await pull(`sha256:${'0'.repeat(64)}`)).toMatchObject({ kind: 'not-found' });
  expect(await pull('Not A Reference')).toMatchObject({ kind: 'invalid' });
  scripted.intercept = (_, response) => {
    response.writeHead(503).end();
    return true;
  };
  expect(await pull(`${scripted.host}/here:1`)).toMatchObject({
    kind: 'unavailable',
    message: expect.stringMatching(/^RegistryUnavailable: /),
  });
});

test('a signature policy decides, on every pull', async () => {
  const policy = join(base, `policy-${unique()}.json`);
  await writeFile(policy, JSON.stringify({ default: [{ type: 'insecureAcceptAnything' }] }));
  const images = await open({ policy });
  scripted.image('signed', '1', [layer('a', unique())]);
  await images.pull(`${scripted.host}/signed:1`, undefined, forever());
  await writeFile(policy, JSON.stringify({ default: [{ type: 'reject' }] }));
  const error = await errorOf(images.pull(`${scripted.host}/signed:1`, undefined, forever()));
  expect(error).toMatchObject({
    kind: 'failed-precondition',
    message: expect.stringMatching(/^SignatureValidationFailed: /),
  });
});

test('an image whose file is gone is not shown any more, and can be pulled again', async () => {
  const folder = await newFolder();
  const made = scripted.image('lost', '1', [layer('a', unique())]);
  const images = await open({ folder });
  await images.pull(`${scripted.host}/lost:1`, undefined, forever());
  await removeFolder(images.rootfs(made.config.digest));
  const again = await open({ folder });
  expect(again.list()).toEqual([]);
  await again.pull(`${scripted.host}/lost:1`, undefined, forever());
  expect(again.list()).toHaveLength(1);
});
