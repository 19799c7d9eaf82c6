import { readFile } from 'node:fs/promises';

/** Mount points of this process's namespace, oldest first (proc(5), mountinfo). */
export async function mountPoints(): Promise<readonly string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  return table.split('\n').flatMap((line) => {
    const path = line.split(' ')[4];
    return path === undefined ? [] : [unescapeOctal(path)];
  });
}

/** Mount points at `folder` and below, oldest first. */
export async function mountsBelow(folder: string): Promise<readonly string[]> {
  return (await mountPoints()).filter((path) => path === folder || path.startsWith(`${folder}/`));
}

/** Blank, tab, newline and backslash are written as \ooo there. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
