import { silentLog } from '../../src/platform/log.ts';
import { RegistryImages } from '../../src/image/images.ts';
import { mkfsErofs } from './mkfs-erofs.ts';
import { unpacker } from './unpacker.ts';

// A process of its own that pulls one image, for tests that kill it.
const [folder, registriesConf, reference] = process.argv.slice(2);
if (folder === undefined || registriesConf === undefined || reference === undefined) {
  throw new Error('usage: pull-image.ts FOLDER REGISTRIES_CONF REFERENCE');
}
const images = await RegistryImages.open({
  ...{ folder, disksFolder: `${folder}/../vms`, registriesConf, skopeo: 'skopeo', mkfsErofs, unpacker, pinned: [] },
  ...{ maxUnpackedBytes: 2 ** 30, stallMs: 60_000, secretsDir: '/dev/shm', log: silentLog() },
});
await images.pull(reference, undefined, new AbortController().signal);
