import { randomBytes } from 'node:crypto';
import { open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../platform/errors.ts';
import type { FileHandle } from 'node:fs/promises';
import type { NamedReference } from './reference.ts';

/** Credentials for one pull, as CRI hands them over. Empty strings are what is not given. */
export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  readonly auth: string;
  readonly serverAddress: string;
  readonly identityToken: string;
  readonly registryToken: string;
}

/** With an identity token the user's name says nothing; docker's clients write this one. */
const NO_USER = '00000000-0000-0000-0000-000000000000';

/**
 * The content of the credential file for a pull of `reference`; without usable credentials an
 * empty one, so that no file of the node's administrator is used by accident.
 */
export function authFileContent(reference: NamedReference, auth: RegistryAuth | undefined): string {
  const entry = auth === undefined || !appliesTo(reference, auth) ? undefined : entryOf(auth);
  return JSON.stringify({ auths: entry === undefined ? {} : { [reference.domain]: entry } });
}

function entryOf(auth: RegistryAuth): Readonly<Record<string, string>> | undefined {
  if (auth.identityToken !== '') return { auth: basic(NO_USER, ''), identitytoken: auth.identityToken };
  if (auth.username !== '') return { auth: basic(auth.username, auth.password) };
  if (auth.auth !== '') {
    if (!Buffer.from(auth.auth, 'base64').includes(':')) {
      throw new AppError('invalid', 'registry credentials: auth must be base64 of username:password');
    }
    return { auth: auth.auth };
  }
  if (auth.registryToken !== '') {
    // skopeo takes it in its argument list only, which every process of the host can read.
    throw new AppError(
      'unimplemented',
      'registry credentials: a registry token cannot be handed over safely, use an identity token',
    );
  }
  return undefined;
}

function basic(username: string, password: string): string {
  return Buffer.from(`${username}:${password}`).toString('base64');
}

/** Credentials that name another registry are not meant for this one. */
function appliesTo(reference: NamedReference, auth: RegistryAuth): boolean {
  if (auth.serverAddress === '') return true;
  const host = auth.serverAddress.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  const dockerHub = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];
  return host === reference.domain || (reference.domain === 'docker.io' && dockerHub.includes(host));
}

/** Every string that must not turn up in a log or an error. */
export function secretsOf(auth: RegistryAuth | undefined): readonly string[] {
  if (auth === undefined) return [];
  const { username, password, identityToken, registryToken } = auth;
  return [password, auth.auth, identityToken, registryToken, username === '' ? '' : basic(username, password)].filter(
    (secret) => secret !== '',
  );
}

const TMPFS_MAGIC = 0x01021994;

/** The first of the folders that keeps its files in memory; undefined when none does. */
export async function memoryFolder(folders: readonly string[]): Promise<string | undefined> {
  for (const folder of folders) {
    const type = await statfs(folder).then(
      (found) => found.type,
      () => undefined,
    );
    if (type === TMPFS_MAGIC) return folder;
  }
  return undefined;
}

/**
 * Writes the content to a file without a name: it is unlinked before anybody is told of it, so not
 * even a crash leaves it behind. Children read it through the descriptor.
 */
export async function openNamelessFile(folder: string, content: string): Promise<FileHandle> {
  const path = join(folder, `kelyfos-${randomBytes(12).toString('hex')}`);
  const file = await open(path, 'wx+', 0o600);
  try {
    await unlink(path);
    await file.writeFile(content);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
