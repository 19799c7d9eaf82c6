import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { execa } from 'execa';

/** The part of an image's configuration that says how it runs; keys as in the OCI image spec. */
export interface OciRunConfig {
  readonly Env?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly User?: string;
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly Volumes?: Readonly<Record<string, Record<string, never>>>;
}

export interface OciImage {
  /** The OCI layout; it holds this image alone. */
  readonly folder: string;
  /** sha256:..., what CRI calls the image's id. */
  readonly configDigest: string;
  readonly manifestDigest: string;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const compress = promisify(gzip);
const digestOf = (data: Uint8Array): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

/** A folder as a tar stream that depends on nothing but its content. Owners are root. */
export async function tarOf(folder: string): Promise<Uint8Array> {
  const flags = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '--xattrs', '--format=pax'];
  // Otherwise pax headers carry the time at which each file was read.
  const pax = '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime';
  const result = await execa('tar', [...flags, pax, '-C', folder, '-cf', '-', '.'], {
    encoding: 'buffer',
    maxBuffer: 1 << 30,
    timeout: 60_000,
  });
  return result.stdout;
}

/** Writes an OCI layout with one image made of these layers (tar streams, the lowest first). */
export async function writeOciLayout(
  folder: string,
  layers: readonly Uint8Array[],
  config: OciRunConfig,
): Promise<OciImage> {
  const blobs = join(folder, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, data: Uint8Array): Promise<Descriptor> => {
    const digest = digestOf(data);
    await writeFile(join(blobs, digest.slice('sha256:'.length)), data);
    return { mediaType, digest, size: data.byteLength };
  };
  const putJson = (mediaType: string, value: unknown): Promise<Descriptor> =>
    put(mediaType, Buffer.from(JSON.stringify(value)));

  const layerDescriptors: Descriptor[] = [];
  for (const layer of layers) {
    layerDescriptors.push(
      await put('application/vnd.oci.image.layer.v1.tar+gzip', await compress(layer, { level: 1 })),
    );
  }
  const configDescriptor = await putJson('application/vnd.oci.image.config.v1+json', {
    created: '2024-01-01T00:00:00Z',
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
  });
  const manifest = await putJson('application/vnd.oci.image.manifest.v1+json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: configDescriptor,
    layers: layerDescriptors,
  });
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  await writeFile(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  return { folder, configDigest: configDescriptor.digest, manifestDigest: manifest.digest };
}
