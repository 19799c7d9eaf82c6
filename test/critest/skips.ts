import type { Spec } from './report.ts';

export interface AllowedSkip {
  readonly why: string;
  /** Of the spec's name. */
  readonly name: RegExp;
  /** Of what the spec itself says; an empty reason means that it was left out by a flag. */
  readonly reason: RegExp;
}

/** The digest is fixed in critest, and its image cannot be made again. */
export const unreachableSpec = 'public image with digest should be pulled and removed';

/** All that may be skipped; anything else that is skipped is a failure. */
export const allowedSkips: readonly AllowedSkip[] = [
  { why: 'the kernel of this machine has no AppArmor', name: /AppArmor/, reason: /apparmor/i },
  { why: 'a benchmark, which critest leaves out itself', name: /benchmark/, reason: /^$/ },
  { why: 'asks for a digest that cannot be had offline', name: new RegExp(unreachableSpec), reason: /^$/ },
];

export interface Verdict {
  readonly passed: number;
  readonly failed: readonly Spec[];
  /** Skipped without being allowed to. */
  readonly unexpected: readonly Spec[];
  readonly skipped: readonly { readonly spec: Spec; readonly why: string }[];
}

export function judge(specs: readonly Spec[]): Verdict {
  const skips = specs
    .filter(({ outcome }) => outcome === 'skipped')
    .map((spec) => ({
      spec,
      why: allowedSkips.find(({ name, reason }) => name.test(spec.name) && reason.test(spec.reason))?.why,
    }));
  return {
    passed: specs.filter(({ outcome }) => outcome === 'passed').length,
    failed: specs.filter(({ outcome }) => outcome === 'failed'),
    unexpected: skips.filter(({ why }) => why === undefined).map(({ spec }) => spec),
    skipped: skips.flatMap(({ spec, why }) => (why === undefined ? [] : [{ spec, why }])),
  };
}
