import * as z from 'zod';
import { AppError, messageOf } from '../platform/errors.ts';
import { digestSchema } from './digest.ts';

/** A piece of content that a manifest names. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** What one image consists of. */
export interface ImageManifest {
  readonly kind: 'image';
  /** Docker's own manifest, schema 2; skopeo rewrites its configuration when it makes an OCI layout. */
  readonly docker: boolean;
  readonly config: Descriptor;
  /** From the bottom up. */
  readonly layers: readonly Descriptor[];
}

/** The same image for several platforms. */
export interface ManifestList {
  readonly kind: 'list';
  readonly entries: readonly PlatformEntry[];
}

export interface PlatformEntry extends Descriptor {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
}

const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';

const descriptor = z.looseObject({
  mediaType: z.string().default(''),
  digest: digestSchema,
  size: z.int().nonnegative(),
});

const imageManifest = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().default(''),
  config: descriptor,
  layers: z.array(descriptor),
});

const manifestList = z.looseObject({
  schemaVersion: z.literal(2),
  manifests: z.array(
    descriptor.extend({
      platform: z
        .looseObject({ os: z.string(), architecture: z.string(), variant: z.string().default('') })
        .default({ os: '', architecture: '', variant: '' }),
    }),
  ),
});

/** Reads a manifest or a list of them, of OCI or of docker's schema 2. `name` is for the error. */
export function parseManifest(bytes: Uint8Array, name: string): ImageManifest | ManifestList {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new AppError('failed-precondition', `manifest of ${name} is not JSON: ${messageOf(error)}`, { cause: error });
  }
  if (isObject(json) && json['schemaVersion'] === 1) {
    throw new AppError(
      'failed-precondition',
      `manifest of ${name} is of docker's old schema 1, which is not supported`,
    );
  }
  if (isObject(json) && Array.isArray(json['manifests'])) {
    const list = check(manifestList, json, name);
    return {
      kind: 'list',
      entries: list.manifests.map(({ mediaType, digest, size, platform }) => ({
        ...{ mediaType, digest, size },
        ...{ os: platform.os, architecture: platform.architecture, variant: platform.variant },
      })),
    };
  }
  const image = check(imageManifest, json, name);
  return {
    kind: 'image',
    docker: image.mediaType === DOCKER_MANIFEST,
    config: pick(image.config),
    layers: image.layers.map(pick),
  };
}

/** The entry for the platform; the first one wins, as with every other client. */
export function choosePlatform(list: ManifestList, platform: Platform, name: string): PlatformEntry {
  const entry = list.entries.find((e) => e.os === platform.os && e.architecture === platform.architecture);
  if (entry !== undefined) return entry;
  const offered = list.entries.filter((e) => e.os !== '' && e.os !== 'unknown').map((e) => `${e.os}/${e.architecture}`);
  throw new AppError(
    'not-found',
    `${name} has no image for ${platform.os}/${platform.architecture}, only for ${offered.join(', ') || 'unnamed platforms'}`,
  );
}

/** Whether the layer is a plain tar, which skopeo would compress when it rewrites a docker manifest. */
export function isUncompressed(layer: Descriptor): boolean {
  return layer.mediaType.endsWith('.tar');
}

function pick({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function check<T>(schema: z.ZodType<T>, json: unknown, name: string): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new AppError('failed-precondition', `manifest of ${name} is malformed: ${z.prettifyError(result.error)}`, {
    cause: result.error,
  });
}
