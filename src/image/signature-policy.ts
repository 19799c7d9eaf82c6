import { readFile } from 'node:fs/promises';
import * as z from 'zod';

const requirements = z.array(z.looseObject({ type: z.string() }));
const policy = z.strictObject({
  default: requirements,
  transports: z.record(z.string(), z.record(z.string(), requirements)).default({}),
});

/**
 * Whether a signature policy (containers-policy.json(5)) accepts every image, as the one that Debian installs does:
 * then nothing has to be judged. One that cannot be read or understood is for skopeo to complain about.
 */
export async function acceptsEverything(file: string): Promise<boolean> {
  const text = await readFile(file, 'utf8').catch(() => '');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return false;
  }
  const { success, data } = policy.safeParse(json);
  if (!success) return false;
  const all = [data.default, ...Object.values(data.transports).flatMap((scopes) => Object.values(scopes))];
  return all.every((list) => list.length > 0 && list.every(({ type }) => type === 'insecureAcceptAnything'));
}
