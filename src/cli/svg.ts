/** Text of a drawing; `attributes` as they stand in the element. */
export function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${coordinate(x)}" y="${coordinate(y)}" ${attributes}>${escaped(content)}</text>`;
}

/** A tenth of a pixel is as fine as anybody sees. */
export function coordinate(x: number): string {
  return String(Math.round(x * 10) / 10);
}

/** Round numbers from 0 to at most `last`, some five of them. */
export function ticks(last: number): readonly number[] {
  if (last <= 0) return [0];
  const rough = last / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough) ?? rough;
  return Array.from({ length: Math.floor(last / step) + 1 }, (_, index) => index * step);
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export function escaped(content: string): string {
  return content.replaceAll(/[&<>"]/g, (character) => entities[character] ?? '');
}
