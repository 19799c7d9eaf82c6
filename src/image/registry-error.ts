import { AppError } from '../platform/errors.ts';
import type { ErrorKind } from '../platform/errors.ts';

interface Pattern {
  readonly matches: RegExp;
  readonly kind: ErrorKind;
  /** What the message begins with. The kubelet looks for the two words in capitals. */
  readonly lead: string;
}

// In this order: the text of a rejected signature or a missing image may contain words of the others.
const PATTERNS: readonly Pattern[] = [
  {
    matches:
      /source image rejected|signature was required|running image .* is rejected by policy|cryptographic signature/i,
    kind: 'failed-precondition',
    lead: 'SignatureValidationFailed: ',
  },
  {
    matches: /unauthorized|authentication required|invalid username\/password|denied|\b40[13]\b/i,
    kind: 'failed-precondition',
    lead: 'not authorised to pull ',
  },
  {
    matches: /manifest unknown|name unknown|repository name not known|not found|\b404\b/i,
    kind: 'not-found',
    lead: 'no such image: ',
  },
  { matches: /too ?many ?requests|\b429\b/i, kind: 'unavailable', lead: 'RegistryUnavailable: too many requests: ' },
  {
    matches:
      /connection refused|connection reset|no such host|i\/o timeout|network is unreachable|no route to host|TLS handshake|x509|server gave HTTP response|server misbehaving|pinging container registry|unexpected EOF|: EOF|\b50[0-9]\b|dial tcp|context deadline exceeded|temporary failure/i,
    kind: 'unavailable',
    lead: 'RegistryUnavailable: ',
  },
  { matches: /no space left on device|disk quota exceeded/i, kind: 'exhausted', lead: 'no space left: ' },
  {
    matches:
      /digest .*(mismatch|did not match|does not match)|does not match (digest|config)|invalid checksum|manifest .*(invalid|malformed)/i,
    kind: 'failed-precondition',
    lead: 'corrupt image: ',
  },
];

/** What skopeo's last words mean. */
export interface Failure {
  readonly kind: ErrorKind;
  /** What the message begins with. */
  readonly lead: string;
  readonly said: string;
}

export function kindOfFailure(stderr: string, secrets: readonly string[] = []): Failure {
  const said = withoutSecrets(lastMessage(stderr), secrets);
  const pattern = PATTERNS.find(({ matches }) => matches.test(said));
  return { kind: pattern?.kind ?? 'internal', lead: pattern?.lead ?? '', said };
}

/** Turns what skopeo wrote before it failed into an error that says who is to blame. */
export function registryError(name: string, doing: string, stderr: string, secrets: readonly string[]): AppError {
  const { kind, lead, said } = kindOfFailure(stderr, secrets);
  return new AppError(kind, `${lead}${name}: ${doing}: ${said}`);
}

/** skopeo logs `time="..." level=fatal msg="..."`; the message of the last such line says most. */
function lastMessage(stderr: string): string {
  const messages = [...stderr.matchAll(/level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"/g)];
  const last = messages.at(-1)?.[1];
  if (last !== undefined) return last.replaceAll('\\"', '"').replaceAll('\\n', ' ');
  return stderr.trim() === '' ? 'failed without a word' : stderr.trim();
}

function withoutSecrets(text: string, secrets: readonly string[]): string {
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, '***'), text);
}
