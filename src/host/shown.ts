import { isMark, type Labels, markedFields, markPrefix } from './marks.ts';

type Fields = Record<string, unknown>;

/** What the other runtime leaves out of its answers. */
export interface Known {
  /** The id of an image by any of its names; undefined when there is no such image. */
  imageId(reference: string): string | undefined;
}

/**
 * An answer of the other runtime as our clients get it: at whatever depth ids and handlers are those that
 * they know, and no mark is left, nor in the JSON texts of a verbose answer.
 */
export function shown<T>(message: T, known: Known): T {
  if (typeof message === 'string') return shownText(message, known) as T;
  if (Array.isArray(message)) return message.map((item: unknown) => shown(item, known)) as T;
  if (typeof message !== 'object' || message === null || message instanceof Uint8Array) return message;
  const copy: Fields = {};
  for (const [key, value] of Object.entries(message)) if (!isMark(key)) copy[key] = shown(value as unknown, known);
  const { labels } = message as { readonly labels?: unknown };
  if (typeof labels === 'object' && labels !== null) {
    for (const [field, value] of Object.entries(markedFields(labels as Labels))) {
      if (value !== undefined && field in copy) copy[field] = value;
    }
  }
  // Older runtimes do not tell it; the kubelet keeps an image from its garbage collection by it.
  const { image_id: imageId, image_ref: imageRef } = copy;
  if (imageId === '' && typeof imageRef === 'string') copy['image_id'] = known.imageId(imageRef) ?? '';
  return copy as T;
}

function shownText(text: string, known: Known): string {
  if (!text.includes(markPrefix)) return text;
  try {
    return JSON.stringify(shown(JSON.parse(text) as unknown, known));
  } catch {
    // Not JSON: a text that mentions a mark, and nothing that a program reads.
    return text;
  }
}
