import { expect, test } from '@jest/globals';
import { registryError } from './registry-error.ts';

const fatal = (message: string): string => `time="2024-01-01T00:00:00Z" level=fatal msg="${message}"\n`;

test.each([
  ['dial tcp 127.0.0.1:1: connect: connection refused', 'unavailable', /^RegistryUnavailable: /],
  ['lookup nowhere.invalid: no such host', 'unavailable', /^RegistryUnavailable: /],
  ['received unexpected HTTP status: 503 Service Unavailable', 'unavailable', /^RegistryUnavailable: /],
  ['net/http: TLS handshake timeout', 'unavailable', /^RegistryUnavailable: /],
  ['x509: certificate signed by unknown authority', 'unavailable', /^RegistryUnavailable: /],
  ['toomanyrequests: slow down', 'unavailable', /^RegistryUnavailable: /],
  [
    'Source image rejected: A signature was required, but no signature exists',
    'failed-precondition',
    /^SignatureValidationFailed: /,
  ],
  [
    'Source image rejected: Running image docker://x is rejected by policy.',
    'failed-precondition',
    /^SignatureValidationFailed: /,
  ],
  [
    'unable to retrieve auth token: invalid username/password: unauthorized',
    'failed-precondition',
    /^not authorised to pull /,
  ],
  ['requested access to the resource is denied', 'failed-precondition', /^not authorised to pull /],
  ['reading manifest 2 in x: manifest unknown', 'not-found', /^no such image: /],
  ['writing blob: no space left on device', 'exhausted', /^no space left: /],
  ['something new', 'internal', /^app:1: copy: something new$/],
])('%s', (message, kind, text) => {
  const error = registryError('app:1', 'copy', fatal(message), []);
  expect(error.kind).toBe(kind);
  expect(error.message).toMatch(text);
  expect(error.message).toContain(message);
});

test('the last complaint counts, quotes are undone, secrets are taken out', () => {
  const stderr = fatal('first') + fatal('Get \\"https://user:hunter2@x\\": refused');
  expect(registryError('app', 'copy', stderr, ['hunter2']).message).toBe(
    'app: copy: Get "https://user:***@x": refused',
  );
});

test('without a word there still is an error', () => {
  expect(registryError('app', 'copy', '', []).message).toBe('app: copy: failed without a word');
});
