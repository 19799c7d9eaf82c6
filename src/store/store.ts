import { open, type Database, type RootDatabase } from 'lmdb';
import { z } from 'zod';
import { AppError, messageOf } from '../platform/errors.ts';

/** Turns what was read back into a record; throws when it is not one. */
export interface RecordSchema<T> {
  parse(value: unknown): T;
}

const envelope = z.strictObject({ version: z.number().int(), record: z.unknown() });

/** JSON with the two types records need beside it: bigint and bytes. */
function encode(version: number, record: unknown): string {
  return JSON.stringify({ version, record }, function (this: Readonly<Record<string, unknown>>, key, value: unknown) {
    // The value as it was: a Buffer has turned itself into something else by now.
    const raw = this[key];
    if (typeof raw === 'bigint') return { $bigint: raw.toString() };
    if (ArrayBuffer.isView(raw)) {
      return { $bytes: Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('base64') };
    }
    return value;
  });
}

const tagged = z.union([z.strictObject({ $bigint: z.string() }), z.strictObject({ $bytes: z.string() })]);

function decode(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown) => {
    if (typeof value !== 'object' || value === null || !('$bigint' in value || '$bytes' in value)) return value;
    const found = tagged.parse(value);
    return '$bigint' in found ? BigInt(found.$bigint) : new Uint8Array(Buffer.from(found.$bytes, 'base64'));
  });
}

/** One kind of record by key. Reads are synchronous and see every write at once. */
export class Table<T> {
  readonly #database: Database<string, string>;
  readonly #name: string;
  readonly #version: number;
  readonly #schema: RecordSchema<T>;
  readonly #isClosed: () => boolean;

  constructor(
    database: Database<string, string>,
    name: string,
    version: number,
    schema: RecordSchema<T>,
    isClosed: () => boolean,
  ) {
    this.#database = database;
    this.#name = name;
    this.#version = version;
    this.#schema = schema;
    this.#isClosed = isClosed;
  }

  get(key: string): T | undefined {
    const text = this.#database.get(key);
    return text === undefined ? undefined : this.#parse(key, text);
  }

  /** Resolves once the record survives the death of the daemon. Puts of one tick are one transaction. */
  async put(key: string, record: T): Promise<void> {
    this.#assertOpen(key);
    await this.#database.put(key, encode(this.#version, record));
  }

  async remove(key: string): Promise<void> {
    this.#assertOpen(key);
    await this.#database.remove(key);
  }

  entries(): { readonly key: string; readonly record: T }[] {
    return [...this.#database.getRange({})].map(({ key, value }) => ({ key, record: this.#parse(key, value) }));
  }

  /** Work that goes on while the daemon ends must fail here; LMDB itself would throw where nobody can catch it. */
  #assertOpen(key: string): void {
    if (this.#isClosed()) throw new AppError('unavailable', `record ${this.#name}/${key}: the daemon is ending`);
  }

  #parse(key: string, text: string): T {
    try {
      const { version, record } = envelope.parse(decode(text));
      if (version !== this.#version) {
        throw new AppError('internal', `version ${String(version)} where this daemon knows ${String(this.#version)}`);
      }
      return this.#schema.parse(record);
    } catch (error) {
      throw new AppError('internal', `record ${this.#name}/${key} cannot be read: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}

/** The daemon's records: an LMDB environment in one file. */
export class Store {
  readonly #environment: RootDatabase<string, string>;
  #closed = false;

  private constructor(environment: RootDatabase<string, string>) {
    this.#environment = environment;
  }

  /** `path` is the data file; a lock file is made beside it. */
  static open(path: string): Store {
    try {
      return new Store(open<string, string>({ path, encoding: 'string', maxDbs: 16 }));
    } catch (error) {
      throw new AppError('internal', `cannot open the records in ${path}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** `version` is that of the record's shape: raise it when the shape changes. */
  table<T>(name: string, version: number, schema: RecordSchema<T>): Table<T> {
    return new Table(
      this.#environment.openDB<string, string>({ name, encoding: 'string' }),
      name,
      version,
      schema,
      () => this.#closed,
    );
  }

  /** Resolves when everything written before is on the disk, not only in the kernel's cache. */
  async flushed(): Promise<void> {
    await this.#environment.flushed;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#environment.close();
  }
}
