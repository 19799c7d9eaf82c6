import { smallClass, openVmRig } from './vm-rig.ts';

/** A daemon that makes a VM and is gone without a word, as after SIGKILL. Prints the VM's id. */
const [folder = '', template] = process.argv.slice(2);
const rig = await openVmRig({ folder, classes: [{ ...smallClass, template: template === 'clone' }] });
const trace = { step: <T>(_name: string, work: () => Promise<T>): Promise<T> => work() };
const vm = await rig.provider.claim({ className: 'small' }, trace, AbortSignal.timeout(60_000));
await vm.attachDisk(rig.image.path, AbortSignal.timeout(5_000));
process.stdout.write(`${vm.id}\n`, () => process.kill(process.pid, 'SIGKILL'));
