import type { Image } from '../podsandbox/ports.ts';
import type { Outgoing } from './call.ts';
import type * as cri from './gen/cri-types.ts';

/** The user part of USER: a number is a uid, where 0 is meaningful, anything else a name. */
function imageUser(user: string): Outgoing<Pick<cri.Image, 'uid' | 'username'>> {
  const [name = ''] = user.split(':', 1);
  return /^\d+$/.test(name) ? { uid: { value: name } } : { username: name };
}

export function shapeImage(image: Image): Outgoing<cri.Image> {
  return {
    id: image.id,
    repo_tags: image.repoTags,
    repo_digests: image.repoDigests,
    size: String(image.sizeBytes),
    ...imageUser(image.config.user),
    pinned: image.pinned,
  };
}
