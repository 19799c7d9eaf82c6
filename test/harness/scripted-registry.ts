import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';

export interface StoredDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface StoredImage {
  readonly config: StoredDescriptor;
  readonly manifest: StoredDescriptor;
  readonly layers: readonly StoredDescriptor[];
}

export type Answer = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  tar: 'application/vnd.oci.image.layer.v1.tar',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerTar: 'application/vnd.docker.image.rootfs.diff.tar',
} as const;

export interface LayerBytes {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  /** The archive in it that the configuration vouches for. */
  readonly tar?: Uint8Array;
}

export function gzipLayer(tar: Uint8Array): LayerBytes {
  return { mediaType: mediaTypes.gzip, bytes: gzipSync(tar, { level: 1 }), tar };
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** A registry that lies, dawdles, asks for passwords and keeps count, as a test wants it. */
export class ScriptedRegistry implements AsyncDisposable {
  readonly host: string;
  /** METHOD path, in order of arrival. */
  readonly requests: string[] = [];
  /** Asked before anything else; true when it has answered itself. */
  intercept: Answer = () => false;
  readonly #server: Server;
  readonly #blobs = new Map<string, Uint8Array>();
  readonly #manifests = new Map<string, { readonly mediaType: string; readonly bytes: Uint8Array }>();

  private constructor(server: Server, host: string) {
    this.#server = server;
    this.host = host;
  }

  static async start(): Promise<ScriptedRegistry> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('registry: no port');
    const registry = new ScriptedRegistry(server, `127.0.0.1:${String(address.port)}`);
    server.on('request', (request, response) => {
      registry.#serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    return registry;
  }

  get registriesConf(): string {
    return `[[registry]]\nlocation = "${this.host}"\ninsecure = true\n`;
  }

  blob(mediaType: string, bytes: Uint8Array): StoredDescriptor {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  bytesOf(digest: string): Uint8Array {
    const bytes = this.#blobs.get(digest);
    if (bytes === undefined) throw new Error(`registry: no blob ${digest}`);
    return bytes;
  }

  /** What the registry sends for the digest from now on, right or wrong. */
  replaceBlob(digest: string, bytes: Uint8Array): void {
    this.#blobs.set(digest, bytes);
  }

  /** Stores any document under its digest and, perhaps, a tag. */
  document(name: string, tag: string | undefined, mediaType: string, content: unknown): StoredDescriptor {
    const bytes = Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    for (const key of [digest, tag]) {
      if (key !== undefined) this.#manifests.set(`${name}/${key}`, { mediaType, bytes });
    }
    return { mediaType, digest, size: bytes.length };
  }

  image(
    name: string,
    tag: string | undefined,
    layers: readonly LayerBytes[],
    more: Record<string, unknown> = {},
  ): StoredImage {
    const docker = layers.some((layer) => layer.mediaType.includes('docker'));
    const config = this.blob(
      docker ? mediaTypes.dockerConfig : mediaTypes.config,
      Buffer.from(
        JSON.stringify({
          ...{ os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', config: { Cmd: ['/bin/sh'] } },
          rootfs: { type: 'layers', diff_ids: layers.map((layer) => digestOf(layer.tar ?? layer.bytes)) },
          ...more,
        }),
      ),
    );
    const stored = layers.map((layer) => this.blob(layer.mediaType, layer.bytes));
    const mediaType = docker ? mediaTypes.dockerManifest : mediaTypes.manifest;
    const manifest = this.document(name, tag, mediaType, { schemaVersion: 2, mediaType, config, layers: stored });
    return { config, manifest, layers: stored };
  }

  /** How often a blob was fetched. */
  fetches(digest: string): number {
    return this.requests.filter((request) => request.startsWith('GET ') && request.endsWith(`/blobs/${digest}`)).length;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? '';
    this.requests.push(`${request.method ?? ''} ${url}`);
    if (await this.intercept(request, response)) return;
    const [, name = '', kind, key = ''] = /^\/v2\/(.+)\/(blobs|manifests)\/(.+)$/.exec(url) ?? [];
    if (url === '/v2/') return void response.end('{}');
    if (kind === 'blobs') {
      const blob = this.#blobs.get(key);
      if (blob !== undefined) return void response.writeHead(200, { 'content-length': blob.length }).end(blob);
    } else if (kind === 'manifests') {
      const manifest = this.#manifests.get(`${name}/${key}`);
      if (manifest !== undefined) {
        response.writeHead(200, { 'content-type': manifest.mediaType, 'content-length': manifest.bytes.length });
        return void response.end(request.method === 'HEAD' ? undefined : manifest.bytes);
      }
    }
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end(
      JSON.stringify({
        errors: [{ code: kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', message: 'manifest unknown' }],
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
