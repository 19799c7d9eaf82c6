import type { Image, ImageFileSystem, Images } from '../ports.ts';

export const busybox: Image = {
  id: `sha256:${'b'.repeat(64)}`,
  repoTags: ['example.test/busybox:latest'],
  repoDigests: [`example.test/busybox@sha256:${'d'.repeat(64)}`],
  sizeBytes: 4096n,
  config: {
    entrypoint: [],
    cmd: ['sh'],
    env: ['PATH=/bin'],
    workingDir: '',
    user: '',
    stopSignal: '',
    volumes: [],
    labels: {},
  },
  pinned: false,
  spec: {},
};

const nothing = { usedBytes: 0n, inodesUsed: 0n };

/** One image under three names: "busybox", its tag and its id. */
export class FakeImages implements Images {
  readonly mountpoint = '/images';

  pull(): Promise<string> {
    return Promise.resolve(busybox.id);
  }

  find(reference: string): Image | undefined {
    return [busybox.id, 'busybox', ...busybox.repoTags].includes(reference) ? busybox : undefined;
  }

  list(): readonly Image[] {
    return [busybox];
  }

  remove(): Promise<void> {
    return Promise.resolve();
  }

  fsInfo(): Promise<ImageFileSystem> {
    return Promise.resolve({ mountpoint: '/', images: nothing, containers: nothing, at: new Date(0) });
  }

  rootfs(id: string): string {
    return `/images/${id}`;
  }
}
