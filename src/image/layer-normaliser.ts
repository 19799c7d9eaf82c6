import { AppError } from '../platform/errors.ts';
import { ByteReader } from './byte-reader.ts';
import { LayerTree } from './layer-tree.ts';
import { MAX_EXTENDED_HEADER, readPaxRecords, writePaxRecords } from './pax-records.ts';
import { TAR_BLOCK, isZeroBlock, makeHeader, malformed, paddingOf, readHeader, restated } from './tar-header.ts';
import type { PaxRecords } from './pax-records.ts';
import type { TarHeader } from './tar-header.ts';

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** Of one layer; bounds the memory a hostile image can make us use. */
const MAX_MEMBERS = 5_000_000;

/** Names of one file that lead to each other. */
const MAX_LINK_HOPS = 16;

/** One member of an archive without its data. */
interface Member {
  readonly header: TarHeader;
  readonly block: Buffer;
  readonly records: PaxRecords;
  readonly path: string;
  readonly linkPath: string;
  readonly size: number;
}

/**
 * Rewrites the layers of one image, in order, so that each archive is complete in itself:
 * - Folders that a layer uses but does not describe are described as the layers below had them.
 *   mkfs.erofs would give them attributes of its own.
 * - What a layer puts below a symlink of a lower layer is put where the symlink leads to.
 * - A whiteout and a new thing of the same name get along in whichever order they come.
 * - The archive ends properly. mkfs.erofs may spin on one that is cut off.
 * The rest is passed on as it is.
 */
export class LayerNormaliser {
  readonly #tree = new LayerTree(folderMember);
  readonly #maxBytes: number;
  #layer = -1;
  #bytes = 0;
  /** What this layer has, by path, and what it hides. */
  readonly #named = new Set<string>();
  readonly #whitedOut = new Set<string>();

  readonly #reopen: ReopenLayer;

  /** Fails when the files of all layers together are bigger than `maxBytes`. */
  constructor(maxBytes: number, reopen: ReopenLayer) {
    this.#maxBytes = maxBytes;
    this.#reopen = reopen;
  }

  /** An archive with the root folder alone. */
  static base(): Buffer {
    return Buffer.concat([folderMember(''), END]);
  }

  /** `verify` is called when all of the source was read and before the archive is ended. */
  async *layer(source: AsyncIterable<Buffer>, verify: () => void): AsyncGenerator<Buffer> {
    this.#layer += 1;
    this.#named.clear();
    this.#whitedOut.clear();
    const reader = new ByteReader(source);
    for (;;) {
      const member = await readMember(reader);
      if (member === undefined) break;
      if (member.header.type === '1') yield* this.#fetchLinkTarget(member);
      yield* this.#describe(member);
      yield* this.#passContent(member, reader);
    }
    await reader.drain();
    verify();
    yield END;
  }

  async *#passContent({ path, size }: Member, reader: ByteReader): AsyncGenerator<Buffer> {
    this.#bytes += size;
    if (this.#bytes > this.#maxBytes) {
      throw new AppError('exhausted', `image unpacks to more than the limit of ${String(this.#maxBytes)} bytes`);
    }
    let passed = 0;
    const stored = size + paddingOf(size);
    for await (const part of reader.pass(stored)) {
      passed += part.length;
      yield part;
    }
    // Some writers leave out the padding of the last file.
    if (passed < size) throw malformed(`it ends within ${path}`);
    if (passed < stored) yield Buffer.alloc(stored - passed);
  }

  /** The member's own header, after those of the folders it needs. */
  *#describe(member: Member): Generator<Buffer> {
    const tree = this.#tree;
    const layer = this.#layer;
    const { type } = member.header;
    const path = tree.resolve(member.path);
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    yield* tree.missingParents(path, layer);

    const folder = path.slice(0, Math.max(slash, 0));
    if (name === OPAQUE) tree.makeOpaque(folder, layer);
    else if (name.startsWith(WHITEOUT)) {
      yield* this.#whiteOut(member, path, folder);
      return;
    }

    const bytes = encode(member, path, type === '1' ? tree.resolve(member.linkPath) : member.linkPath);
    if (type === '5') tree.putFolder(path, layer, bytes);
    else if (path === '') throw malformed('the root is not a folder');
    else if (type === '2') tree.putSymlink(path, layer, member.linkPath);
    else tree.putOther(path);
    this.#named.add(path);
    if (this.#named.size > MAX_MEMBERS) throw malformed('too many files');
    yield bytes;
    if (type === '5' && this.#whitedOut.delete(path)) yield opaqueMark(path);
  }

  /** A whiteout hides what the layers below have; mkfs.erofs would apply it to this layer too. */
  *#whiteOut(member: Member, path: string, folder: string): Generator<Buffer> {
    const name = path.slice(path.lastIndexOf('/') + 1 + WHITEOUT.length);
    const hidden = folder === '' ? name : `${folder}/${name}`;
    const existing = this.#tree.kindOf(hidden, this.#layer);
    if (existing === 'folder') {
      this.#tree.makeOpaque(hidden, this.#layer);
      yield opaqueMark(hidden);
    } else if (!this.#named.has(hidden)) {
      this.#tree.whiteOut(hidden, this.#layer);
      this.#whitedOut.add(hidden);
      yield encode(member, path, member.linkPath);
    }
    if (member.size > 0) throw malformed(`a whiteout has content: ${path}`);
  }

  /** A link to a file that only lower layers have: the file becomes part of this layer. */
  async *#fetchLinkTarget(link: Member): AsyncGenerator<Buffer> {
    const path = this.#tree.resolve(link.linkPath);
    if (this.#named.has(path)) return;
    let wanted = path;
    let hops = 0;
    for (let layer = this.#layer - 1; layer >= 0; layer -= 1) {
      // A name that is a link there is looked for again under its first name.
      for (let linked = true; linked;) {
        linked = false;
        await using content = await this.#reopen(layer);
        const reader = new ByteReader(content.bytes);
        for (let member = await readMember(reader); member !== undefined; member = await readMember(reader)) {
          if (member.path !== wanted) {
            for await (const _ of reader.pass(member.size + paddingOf(member.size)));
          } else if (member.header.type === '1' && member.linkPath !== wanted) {
            wanted = member.linkPath;
            hops += 1;
            linked = hops < MAX_LINK_HOPS;
            break;
          } else {
            yield* this.#describe({ ...member, path, records: withPath(member.records, path) });
            yield* this.#passContent(member, reader);
            return;
          }
        }
      }
    }
    throw malformed(`${link.path} is a hard link to ${path}, which is not there`);
  }
}

/** Opens a layer that was read before once more. */
export type ReopenLayer = (layer: number) => Promise<AsyncDisposable & { readonly bytes: AsyncIterable<Buffer> }>;

function withPath(records: PaxRecords, path: string): PaxRecords {
  return new Map([...records, ['path', Buffer.from(path)]]);
}

const END = Buffer.alloc(2 * TAR_BLOCK);

/** Extended headers and header of a member; as they came when no name changed. */
function encode(member: Member, path: string, linkPath: string): Buffer {
  const records = new Map(member.records);
  const isFolder = member.header.type === '5';
  if (path !== member.path) records.set('path', Buffer.from(isFolder ? `${path}/` : path));
  if (linkPath !== member.linkPath) records.set('linkpath', Buffer.from(linkPath));
  return Buffer.concat([writePaxRecords(records), member.block]);
}

/** Hides what the layers below have in the folder. */
function opaqueMark(folder: string): Buffer {
  return emptyMember('0', `${folder}/${OPAQUE}`);
}

/** A folder that nobody described: owned by root, mode 0755. */
function folderMember(path: string): Buffer {
  return emptyMember('5', path === '' ? './' : `${path}/`);
}

function emptyMember(type: '0' | '5', name: string): Buffer {
  return Buffer.concat([writePaxRecords(new Map([['path', Buffer.from(name)]])), makeHeader(type, 'member', 0)]);
}

/** Reads the next member's headers; nothing at the end of the archive. */
async function readMember(reader: ByteReader): Promise<Member | undefined> {
  const records = new Map<string, Buffer>();
  for (let headers = 0; ; headers += 1) {
    const block = await reader.take(TAR_BLOCK);
    if (block.length === 0 && headers === 0) return undefined;
    if (block.length < TAR_BLOCK) throw malformed('it ends within a header');
    if (isZeroBlock(block)) {
      if (headers === 0) return undefined;
      throw malformed('it ends after an extended header');
    }
    const header = readHeader(block);
    switch (header.type) {
      case 'x':
        for (const [key, value] of readPaxRecords(await readBody(reader, header))) records.set(key, value);
        break;
      case 'g':
        // Comments, in practice: archives of git begin with one.
        await readBody(reader, header);
        headers -= 1;
        break;
      case 'L':
        records.set('path', cString(await readBody(reader, header)));
        break;
      case 'K':
        records.set('linkpath', cString(await readBody(reader, header)));
        break;
      default:
        return memberOf(block, header, records);
    }
  }
}

async function readBody(reader: ByteReader, { size }: TarHeader): Promise<Buffer> {
  if (size > MAX_EXTENDED_HEADER) throw malformed('an extended header is too long');
  const body = await reader.take(size + paddingOf(size));
  if (body.length < size) throw malformed('it ends within an extended header');
  return body.subarray(0, size);
}

function cString(body: Buffer): Buffer {
  const end = body.indexOf(0);
  return end < 0 ? body : body.subarray(0, end);
}

function memberOf(block: Buffer, header: TarHeader, records: ReadonlyMap<string, Buffer>): Member {
  const path = cleanPath(records.get('path')?.toString() ?? header.name);
  const target = records.get('linkpath')?.toString() ?? header.linkName;
  if (header.type === 'S' || [...records.keys()].some((key) => key.startsWith('GNU.sparse.'))) {
    throw new AppError(
      'failed-precondition',
      `image has a file in a sparse form of GNU tar, which is not supported: ${path}`,
    );
  }
  const said = Number(records.get('size')?.toString() ?? header.size);
  if (!Number.isSafeInteger(said) || said < 0) throw malformed('bad size');
  // Links, devices and folders have no data whatever the header says.
  const size = '123456'.includes(header.type) ? 0 : said;
  const isChanged = size !== said || header.isOldFolder;
  const kept = isChanged ? new Map([...records].filter(([key]) => key !== 'size')) : records;
  return {
    ...{ header, records: kept, path, size },
    block: isChanged ? restated(block, header.type, size) : block,
    linkPath: header.type === '1' ? cleanPath(target) : target,
  };
}

/** Without slashes at its ends and `.` in it; the root is the empty path. */
function cleanPath(name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw malformed(`a name leads upwards: ${name}`);
  return parts.join('/');
}
