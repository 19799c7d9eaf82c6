import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import { AppError, hasCode, messageOf } from '../platform/errors.ts';
import { writeFileAtomic } from '../platform/atomic-file.ts';
import { digestSchema } from './digest.ts';

/** What is remembered of an image beside its files. */
export interface ImageRecord {
  /** sha256:<hex>, the digest of the configuration, which is a blob too. */
  readonly id: string;
  /** domain/path:tag */
  readonly tags: readonly string[];
  /** domain/path@sha256:<hex>, of the manifest or list that was asked for. */
  readonly digests: readonly string[];
  readonly layers: readonly string[];
  /** Bytes of the file system before it was padded. */
  readonly size: bigint;
}

const VERSION = 1;

const indexFile = z.object({
  version: z.literal(VERSION),
  images: z.array(
    z.object({
      id: digestSchema,
      tags: z.array(z.string()),
      digests: z.array(z.string()),
      layers: z.array(digestSchema),
      size: z.string().transform((digits) => BigInt(digits)),
    }),
  ),
});

/** The images by id and by name: in memory, and in one file that is replaced as a whole. */
export class ImageIndex {
  readonly #path: string;
  #images: ReadonlyMap<string, ImageRecord> = new Map();
  /** The last of the writes, which go one after the other. */
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  async open(): Promise<void> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      throw error;
    }
    try {
      const { images } = indexFile.parse(JSON.parse(text));
      this.#images = new Map(images.map((image) => [image.id, image]));
    } catch (error) {
      throw new AppError('internal', `image index ${this.#path} cannot be read: ${messageOf(error)}`, { cause: error });
    }
  }

  get(id: string): ImageRecord | undefined {
    return this.#images.get(id);
  }

  all(): readonly ImageRecord[] {
    return [...this.#images.values()];
  }

  byName(name: string): ImageRecord | undefined {
    return this.all().find(({ tags, digests }) => tags.includes(name) || digests.includes(name));
  }

  /** Adds the image, or its new names. A tag that another image had moves to this one. */
  async put(image: ImageRecord): Promise<void> {
    await this.#change((images) => {
      for (const other of images.values()) {
        const tags = other.tags.filter((tag) => !image.tags.includes(tag));
        if (tags.length < other.tags.length) images.set(other.id, { ...other, tags });
      }
      const known = images.get(image.id);
      const join = (a: readonly string[], b: readonly string[]): string[] => [...new Set([...a, ...b])];
      images.set(image.id, {
        ...image,
        tags: join(known?.tags ?? [], image.tags),
        digests: join(known?.digests ?? [], image.digests),
      });
    });
  }

  async delete(id: string): Promise<void> {
    await this.#change((images) => images.delete(id));
  }

  /** Nobody sees a change before it is on disk. */
  async #change(change: (images: Map<string, ImageRecord>) => void): Promise<void> {
    const write = async (): Promise<void> => {
      const images = new Map(this.#images);
      change(images);
      const content = { version: VERSION, images: [...images.values()].map((i) => ({ ...i, size: String(i.size) })) };
      await writeFileAtomic(this.#path, JSON.stringify(content));
      this.#images = images;
    };
    const mine = this.#writing.then(write);
    this.#writing = mine.catch(() => undefined);
    await mine;
  }
}
