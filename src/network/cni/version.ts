/** Versions of the CNI specification that are understood here, oldest first. */
export const CNI_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof CNI_VERSIONS)[number];

export function isCniVersion(version: string): version is CniVersion {
  return (CNI_VERSIONS as readonly string[]).includes(version);
}

export function isAtLeast(version: CniVersion, minimum: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(minimum);
}

/** The newest of the versions a configuration offers that is understood here. */
export function newestOf(offered: readonly string[]): CniVersion | undefined {
  return CNI_VERSIONS.findLast((version) => offered.includes(version));
}
