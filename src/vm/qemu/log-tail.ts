import { open } from 'node:fs/promises';
import { hasCode } from '../../platform/errors.ts';

const tailBytes = 4096;
// eslint-disable-next-line no-control-regex -- escape sequences begin with a control character
const terminalSequence = /\u001B(?:\[[0-9;?]*[A-Za-z]|c)/g;

/** The last 4 kB of a log, printable and on one line; empty when there is none. What a guest writes is not trusted. */
export async function logTail(path: string): Promise<string> {
  let file;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
  try {
    const { size } = await file.stat();
    const start = Math.max(0, size - tailBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(tailBytes), 0, tailBytes, start);
    return oneLine(buffer.subarray(0, bytesRead).toString('utf8'));
  } finally {
    await file.close();
  }
}

/** Without the colours and cursor movements that firmware writes. */
export function oneLine(text: string): string {
  return text
    .replaceAll(terminalSequence, ' ')
    .split(/[\r\n]+/)
    .map((line) => line.replaceAll(/\p{C}/gu, ' ').trim())
    .filter((line) => line !== '')
    .join(' | ');
}
