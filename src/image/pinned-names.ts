import { AppError, messageOf } from '../platform/errors.ts';
import { canonicalName, parseReference } from './reference.ts';

/** Which images the kubelet's garbage collection has to leave alone, by their names. */
export class PinnedNames {
  readonly #exact = new Set<string>();
  readonly #patterns: RegExp[] = [];

  /** Names as users write them, or with `*` for any text in a name that is written out in full. */
  constructor(names: readonly string[]) {
    for (const name of names) {
      if (name.includes('*')) this.#patterns.push(patternOf(name));
      else this.#exact.add(nameOf(name));
    }
  }

  /** `names`: everything that the image is called, its id too. */
  has(names: readonly string[]): boolean {
    return names.some((name) => this.#exact.has(name) || this.#patterns.some((pattern) => pattern.test(name)));
  }
}

function patternOf(name: string): RegExp {
  const literal = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  return new RegExp(`^${name.split('*').map(literal).join('.*')}$`);
}

function nameOf(text: string): string {
  try {
    const parsed = parseReference(text);
    return parsed.kind === 'id' ? parsed.id : canonicalName(parsed);
  } catch (error) {
    throw new AppError('invalid', `pinned images: ${messageOf(error)}`, { cause: error });
  }
}
