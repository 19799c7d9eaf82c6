import * as z from 'zod';
import { AppError, messageOf } from '../platform/errors.ts';
import { ByteReader } from './byte-reader.ts';
import { openLayer } from './layer-content.ts';
import { canonicalName, parseReference } from './reference.ts';
import { isZeroBlock, paddingOf, readHeader, TAR_BLOCK } from './tar-header.ts';

/** One image of an archive. */
export interface ArchivedImage {
  /** How skopeo is told which one is meant: transport, and what comes behind the file's name. */
  readonly transport: 'docker-archive' | 'oci-archive';
  readonly selector: string;
  /** In full. */
  readonly tags: readonly string[];
}

const maxIndexBytes = 8 * 1024 * 1024;

/** Of `docker save`, https://github.com/moby/docker-image-spec. */
const dockerIndex = z.array(z.looseObject({ RepoTags: z.array(z.string()).nullish() })).min(1);

/** https://github.com/opencontainers/image-spec/blob/main/image-layout.md */
const ociIndex = z.looseObject({
  manifests: z.array(z.looseObject({ annotations: z.record(z.string(), z.string()).nullish() })).min(1),
});

const refName = 'org.opencontainers.image.ref.name';
/** The name in full where a reference in a layout is only a tag. */
const fullName = 'io.containerd.image.name';

/**
 * What images are in an archive of docker or OCI, compressed or not. An archive that is both, as those
 * of docker are since version 25, is docker's.
 */
export async function readArchiveIndex(file: string, name: string): Promise<readonly ArchivedImage[]> {
  const { docker, oci } = await findIndexes(file, name);
  if (docker !== undefined) {
    return parse(dockerIndex, docker, `manifest.json of ${name}`).map(({ RepoTags }, index) => ({
      transport: 'docker-archive',
      selector: `@${String(index)}`,
      tags: (RepoTags ?? []).flatMap(inFull),
    }));
  }
  if (oci === undefined) {
    throw new AppError('invalid', `${name} is no archive of images: neither manifest.json nor index.json is in it`);
  }
  const { manifests } = parse(ociIndex, oci, `index.json of ${name}`);
  const [only] = manifests;
  if (manifests.length === 1) {
    return [{ transport: 'oci-archive', selector: '', tags: tagsOf(only?.annotations) }];
  }
  return manifests.map(({ annotations }) => {
    const selector = annotations?.[refName] ?? '';
    if (selector === '') throw new AppError('invalid', `${name} has several images, and one of them has no name`);
    return { transport: 'oci-archive', selector, tags: tagsOf(annotations) };
  });
}

function tagsOf(annotations: Readonly<Record<string, string>> | null | undefined): readonly string[] {
  return [annotations?.[fullName] ?? annotations?.[refName] ?? ''].flatMap(inFull);
}

/** A reference of a layout may be a tag alone, or any text: that is no name. */
function inFull(text: string): readonly string[] {
  if (!/[/:]/.test(text)) return [];
  try {
    const parsed = parseReference(text);
    return parsed.kind === 'name' && parsed.digest === undefined ? [canonicalName(parsed)] : [];
  } catch (error) {
    if (error instanceof AppError) return [];
    throw error;
  }
}

interface Indexes {
  docker?: Buffer;
  oci?: Buffer;
}

async function findIndexes(file: string, name: string): Promise<Indexes> {
  await using content = await openLayer(file);
  const reader = new ByteReader(content.bytes);
  const found: Indexes = {};
  try {
    for (;;) {
      const block = await reader.take(TAR_BLOCK);
      if (block.length < TAR_BLOCK || isZeroBlock(block)) return found;
      const header = readHeader(block);
      const path = header.name.replace(/^\.\//, '');
      const kind =
        header.type !== '0' ? undefined : ({ 'manifest.json': 'docker', 'index.json': 'oci' } as const)[path];
      if (kind !== undefined && header.size <= maxIndexBytes) {
        found[kind] = await reader.take(header.size);
        await skip(reader, paddingOf(header.size));
      } else {
        await skip(reader, header.size + paddingOf(header.size));
      }
    }
  } catch (error) {
    throw new AppError('invalid', `${name} is no archive of images: ${messageOf(error)}`, { cause: error });
  }
}

async function skip(reader: ByteReader, bytes: number): Promise<void> {
  let left = bytes;
  for await (const part of reader.pass(bytes)) left -= part.length;
  if (left > 0) throw new AppError('invalid', 'it is cut off');
}

function parse<T>(schema: z.ZodType<T>, bytes: Buffer, name: string): T {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new AppError('invalid', `${name} is not JSON: ${messageOf(error)}`, { cause: error });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new AppError('invalid', `${name} is malformed: ${z.prettifyError(result.error)}`, { cause: result.error });
}
