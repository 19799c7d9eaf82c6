import { CriClient } from '../../src/cri/client.ts';

/** No call of a test takes longer. */
const timeoutMs = 120_000;

export function testClient(socket: string): CriClient {
  return new CriClient(socket, { timeoutMs });
}
