import { AppError } from '../platform/errors.ts';

/** An image by name, in full: nothing is left to defaults. At least one of tag and digest is there. */
export interface NamedReference {
  readonly kind: 'name';
  /** Host and perhaps port of the registry. */
  readonly domain: string;
  /** Path of the repository in the registry, without slashes at its ends. */
  readonly path: string;
  readonly tag?: string;
  readonly digest?: string;
}

/** An image by the digest of its configuration. */
export interface IdReference {
  readonly kind: 'id';
  /** sha256:<hex> */
  readonly id: string;
}

export type ImageReference = NamedReference | IdReference;

const DEFAULT_DOMAIN = 'docker.io';
const DEFAULT_TAG = 'latest';
const MAX_REPOSITORY_LENGTH = 255;

const DOMAIN =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/;
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const ID = /^(?:sha256:)?([0-9a-f]{64})$/;
const ID_PREFIX = /^(?:sha256:)?([0-9a-f]{1,64})$/;

function invalid(text: string, why: string): AppError {
  return new AppError('invalid', `image reference ${JSON.stringify(text)}: ${why}`);
}

/**
 * Reads what users write: `busybox`, `user/app:1`, `host:5000/app@sha256:...`, `name:tag@digest` or the
 * id of an image. As docker does, the first part of a path is a host only when it looks like one.
 */
export function parseReference(text: string): ImageReference {
  const id = ID.exec(text)?.[1];
  if (id !== undefined) return { kind: 'id', id: `sha256:${id}` };

  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !DIGEST.test(digest)) throw invalid(text, 'the digest must be sha256: and 64 hex digits');

  const name = at < 0 ? text : text.slice(0, at);
  const colon = name.lastIndexOf(':');
  const hasTag = colon > name.lastIndexOf('/');
  const tag = hasTag ? name.slice(colon + 1) : digest === undefined ? DEFAULT_TAG : undefined;
  if (tag !== undefined && !TAG.test(tag)) throw invalid(text, 'bad tag');

  const { domain, path } = splitDomain(hasTag ? name.slice(0, colon) : name);
  if (!DOMAIN.test(domain)) throw invalid(text, 'bad registry host');
  if (!path.split('/').every((component) => PATH_COMPONENT.test(component))) throw invalid(text, 'bad repository name');
  if (domain.length + 1 + path.length > MAX_REPOSITORY_LENGTH) throw invalid(text, 'repository name too long');
  return {
    kind: 'name',
    domain,
    path,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

function splitDomain(name: string): { readonly domain: string; readonly path: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const domain = isHost ? first : DEFAULT_DOMAIN;
  const rest = isHost ? name.slice(slash + 1) : name;
  if (domain !== DEFAULT_DOMAIN && domain !== 'index.docker.io') return { domain, path: rest };
  return { domain: DEFAULT_DOMAIN, path: rest.includes('/') ? rest : `library/${rest}` };
}

/** domain/path */
export function repositoryOf(reference: NamedReference): string {
  return `${reference.domain}/${reference.path}`;
}

/**
 * The one name that an image pulled by this reference goes by: with a digest the tag says nothing
 * more and is dropped.
 */
export function canonicalName(reference: NamedReference): string {
  const repository = repositoryOf(reference);
  if (reference.digest !== undefined) return `${repository}@${reference.digest}`;
  return `${repository}:${reference.tag ?? DEFAULT_TAG}`;
}

/** The hex digits of a text that may be the beginning of an id, as tools print them shortened. */
export function idPrefix(text: string): string | undefined {
  return ID_PREFIX.exec(text)?.[1];
}
