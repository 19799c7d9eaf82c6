import { malformed } from './tar-header.ts';

/** What is known of a path: folders with the bytes that make them in an archive, symlinks with their target. */
type Node = FolderNode | SymlinkNode;

interface FolderNode {
  readonly kind: 'folder';
  member: Buffer;
  /** The last layer that named the folder or something in it. */
  layer: number;
  readonly children: Map<string, Node>;
}

interface SymlinkNode {
  readonly kind: 'symlink';
  readonly target: string;
  readonly layer: number;
}

const MAX_SYMLINKS = 40;

/** Bounds the memory a hostile image can make us use. */
const MAX_NODES = 2_000_000;

/** The folders and symlinks of the layers read so far. */
export class LayerTree {
  readonly #root: FolderNode;
  readonly #makeFolder: (path: string) => Buffer;
  #nodes = 0;

  /** `makeFolder` makes the archive member of a folder that no layer describes. */
  constructor(makeFolder: (path: string) => Buffer) {
    this.#makeFolder = makeFolder;
    this.#root = { kind: 'folder', member: makeFolder(''), layer: -1, children: new Map() };
  }

  /**
   * Where something named `path` ends up: symlinks among its parents are followed, as they are when
   * a layer is unpacked over those below it. The last part is left alone.
   */
  resolve(path: string): string {
    let pending = path.split('/');
    let done: string[] = [];
    for (let followed = 0; pending.length > 1;) {
      const [part = '', ...rest] = pending;
      pending = rest;
      if (part === '..') {
        done.pop();
        continue;
      }
      const node = part === '.' || part === '' ? undefined : this.#node([...done, part]);
      if (node?.kind === 'symlink') {
        followed += 1;
        if (followed > MAX_SYMLINKS) throw malformed(`too many symlinks on the way to ${path}`);
        if (node.target.startsWith('/')) done = [];
        pending = [...node.target.split('/'), ...pending];
      } else if (part !== '.' && part !== '') {
        done.push(part);
      }
    }
    return [...done, ...pending].join('/');
  }

  /** The members of those folders above `path` that this layer has not named yet, from the top. */
  missingParents(path: string, layer: number): Buffer[] {
    const missing: Buffer[] = [];
    let folder = this.#root;
    const visit = (node: FolderNode): void => {
      if (node.layer < layer) missing.push(node.member);
      node.layer = layer;
    };
    visit(folder);
    const parts = path.split('/');
    for (const [depth, part] of parts.slice(0, -1).entries()) {
      const known = folder.children.get(part);
      const next: FolderNode =
        known?.kind === 'folder'
          ? known
          : this.#add(folder, part, {
              kind: 'folder',
              member: this.#makeFolder(parts.slice(0, depth + 1).join('/')),
              layer: -1,
              children: new Map(),
            });
      visit(next);
      folder = next;
    }
    return missing;
  }

  /** The layer describes this folder, perhaps anew. Its parents must be there. */
  putFolder(path: string, layer: number, member: Buffer): void {
    const existing = path === '' ? this.#root : this.#node(path.split('/'));
    if (existing?.kind === 'folder') {
      existing.member = member;
      existing.layer = layer;
      return;
    }
    const { parent, name } = this.#parent(path);
    this.#add(parent, name, { kind: 'folder', member, layer, children: new Map() });
  }

  putSymlink(path: string, layer: number, target: string): void {
    const { parent, name } = this.#parent(path);
    this.#add(parent, name, { kind: 'symlink', target, layer });
  }

  /** Something that is neither folder nor symlink takes the place. */
  putOther(path: string): void {
    const { parent, name } = this.#parent(path);
    parent.children.delete(name);
  }

  /** What this layer has at the path; files are not remembered. */
  kindOf(path: string, layer: number): 'folder' | 'symlink' | undefined {
    const node = this.#node(path.split('/'));
    return node?.layer === layer ? node.kind : undefined;
  }

  /** What the layers below had at the path is gone. */
  whiteOut(path: string, layer: number): void {
    const { parent, name } = this.#parent(path);
    const node = parent.children.get(name);
    if (node !== undefined && node.layer < layer) parent.children.delete(name);
  }

  /** What the layers below had in the folder is gone. Whatever this layer named has its parents named too. */
  makeOpaque(path: string, layer: number): void {
    const node = path === '' ? this.#root : this.#node(path.split('/'));
    if (node?.kind === 'folder') dropOlder(node, layer);
  }

  #node(parts: readonly string[]): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const part of parts) node = node?.kind === 'folder' ? node.children.get(part) : undefined;
    return node;
  }

  #parent(path: string): { readonly parent: FolderNode; readonly name: string } {
    const parts = path.split('/');
    const parent = this.#node(parts.slice(0, -1));
    if (parent?.kind !== 'folder') throw malformed(`${path} lies in something that is not a folder`);
    return { parent, name: parts.at(-1) ?? '' };
  }

  #add<T extends Node>(parent: FolderNode, name: string, node: T): T {
    this.#nodes += 1;
    if (this.#nodes > MAX_NODES) throw malformed('too many folders');
    parent.children.set(name, node);
    return node;
  }
}

function dropOlder(folder: FolderNode, layer: number): void {
  for (const [name, child] of folder.children) {
    if (child.layer < layer) folder.children.delete(name);
    else if (child.kind === 'folder') dropOlder(child, layer);
  }
}
