import { join } from 'node:path';
import { execa } from 'execa';
import { freeFolder, removeFolder } from './free-folder.ts';
import { type OciImage, tarOf, writeOciLayout } from './oci-layout.ts';

/** Waits to be told to end, and reaps what is left to it: process 1 of a pod's shared namespaces. */
const source = `
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { _exit(0); }
static void reap(int signal) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  signal(SIGCHLD, reap);
  for (;;) pause();
}
`;

/** The image that containerd makes a pod's sandbox of, as an OCI layout in `folder`. */
export async function buildPauseImage(folder: string): Promise<OciImage> {
  const root = await freeFolder('pause');
  try {
    const flags = ['-static', '-Os', '-s', '-x', 'c', '-o', join(root, 'pause'), '-'];
    await execa('gcc', flags, { input: source, timeout: 60_000 });
    return await writeOciLayout(folder, [await tarOf(root)], { Entrypoint: ['/pause'] });
  } finally {
    await removeFolder(root);
  }
}
