/** Where the daemons that run are kept, on the global object of the test file, for the dump after a failure. */
export const daemonRegisterKey = Symbol.for('kelyfos.test.daemons');

export interface Dumpable {
  dump(): Promise<string>;
}

export type DaemonRegister = Set<Dumpable>;

export function daemonRegister(): DaemonRegister {
  const holder = globalThis as unknown as Record<symbol, DaemonRegister | undefined>;
  return (holder[daemonRegisterKey] ??= new Set());
}
