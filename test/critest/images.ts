import { arch } from 'node:process';
import type { OciRunConfig } from '../harness/oci-layout.ts';

/** What an image has beside busybox. */
export type Extra = 'nginx' | 'nginx-on-the-host' | 'escalation';

export interface TestImage {
  /** Every name it is to be had by, registry included. */
  readonly names: readonly string[];
  readonly extra?: Extra;
  readonly config?: OciRunConfig;
}

const e2e = 'registry.k8s.io/e2e-test-images';
const criTools = 'gcr.io/k8s-staging-cri-tools';
const shell = { Cmd: ['sh'] };
const runNginx = { Cmd: ['nginx', '-g', 'daemon off;'] };

/** Where the pod on the host's network serves. */
export const hostNetworkPort = 12003;

/**
 * The images critest 1.36 names (pkg/validate of cri-tools), but for one that is known by a digest
 * which cannot be made again.
 */
export const testImages: readonly TestImage[] = [
  { names: [`${e2e}/busybox:1.29-2`], config: shell },
  { names: [`${e2e}/nginx:1.14-2`], extra: 'nginx', config: runNginx },
  {
    names: [`${e2e}/httpd:2.4.39-4`],
    // Its specs look for the name of the program in the log.
    config: { Cmd: ['sh', '-c', 'echo httpd -D FOREGROUND; exec httpd -f -p 80 -h /www'] },
  },
  { names: [`${e2e}/nonewprivs:1.3`], extra: 'escalation', config: { Entrypoint: ['/bin/nnp'] } },
  {
    names: [`${criTools}/hostnet-nginx-${arch === 'arm64' ? 'arm64' : 'amd64'}:latest`],
    extra: 'nginx-on-the-host',
    config: runNginx,
  },
  { names: [`${criTools}/test-image-predefined-group:latest`], config: { ...shell, User: '1000' } },
  { names: [`${criTools}/test-image-user-uid:latest`], config: { ...shell, User: '1002' } },
  { names: [`${criTools}/test-image-user-username:latest`], config: { ...shell, User: 'www-data' } },
  { names: [`${criTools}/test-image-user-uid-group:latest`], config: { ...shell, User: '1003:1004' } },
  { names: [`${criTools}/test-image-user-username-group:latest`], config: { ...shell, User: 'www-data:1004' } },
  { names: [`${criTools}/test-image-latest:latest`], config: shell },
  { names: [`${criTools}/test-image-tag:test`], config: shell },
  { names: [`${criTools}/test-image-tag:all`], config: shell },
  ...['1', '2', '3'].map((n) => ({ names: [`${criTools}/test-image-${n}:latest`], config: shell })),
  { names: ['1', '2', '3'].map((tag) => `${criTools}/test-image-tags:${tag}`), config: shell },
  {
    names: ['registry.k8s.io/pause:3.9', 'k8s.gcr.io/pause:3.9'],
    config: { Entrypoint: ['sleep'], Cmd: ['1000000'] },
  },
];
