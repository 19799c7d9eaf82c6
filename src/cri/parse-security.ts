import type { ContainerSecurity, SeccompSelection } from '../podsandbox/model.ts';
import { absolute, enumValue, invalid, plain, unixId, unsupported } from './fields.ts';
import type * as cri from './gen/cri-types.ts';
import { parseNamespaces } from './parse-namespaces.ts';

const base = 'config.linux.security_context';

const seccompTypes = { RuntimeDefault: 'runtime-default', Unconfined: 'unconfined', Localhost: 'localhost' } as const;

const unconfined: SeccompSelection = { type: 'unconfined', localhostRef: '' };
const runtimeDefault: SeccompSelection = { type: 'runtime-default', localhostRef: '' };

/** The spelling of before there was a message for it. */
function oldSeccomp(profile: string): SeccompSelection {
  if (profile === '' || profile === 'unconfined') return unconfined;
  if (profile === 'runtime/default' || profile === 'docker/default') return runtimeDefault;
  const file = /^localhost\/(.*)$/.exec(profile)?.[1];
  if (file === undefined) throw invalid(`${base}.seccomp_profile_path`, `"${profile}" is not a profile`);
  return { type: 'localhost', localhostRef: absolute(file, `${base}.seccomp_profile_path`) };
}

function seccomp(security: cri.LinuxContainerSecurityContext): SeccompSelection {
  if (security.seccomp === null) return oldSeccomp(security.seccomp_profile_path);
  const type = enumValue(security.seccomp.profile_type, seccompTypes, `${base}.seccomp.profile_type`);
  if (type !== 'localhost') return { type, localhostRef: '' };
  return { type, localhostRef: absolute(security.seccomp.localhost_ref, `${base}.seccomp.localhost_ref`) };
}

/** The guest has no AppArmor: its default profile stands for no profile, a particular one cannot be had. */
function refuseAppArmor(security: cri.LinuxContainerSecurityContext): void {
  const { apparmor, apparmor_profile: old } = security;
  const asked = apparmor?.profile_type === 'Localhost' ? apparmor.localhost_ref : /^localhost\/(.*)$/.exec(old)?.[1];
  if (asked !== undefined)
    throw unsupported(`${base}.apparmor`, `no AppArmor in the virtual machine for profile "${asked}"`);
}

function groupPolicy(policy: cri.SupplementalGroupsPolicy): boolean {
  return enumValue(policy, { Merge: false, Strict: true }, `${base}.supplemental_groups_policy`);
}

/** What a container without a security context gets. */
const none: cri.LinuxContainerSecurityContext = {
  capabilities: null,
  privileged: false,
  namespace_options: null,
  selinux_options: null,
  run_as_user: null,
  run_as_group: null,
  run_as_username: '',
  readonly_rootfs: false,
  supplemental_groups: [],
  supplemental_groups_policy: 'Merge',
  no_new_privs: false,
  masked_paths: [],
  readonly_paths: [],
  seccomp: null,
  apparmor: null,
  apparmor_profile: '',
  seccomp_profile_path: '',
};

export function parseSecurity(message: cri.LinuxContainerSecurityContext | null): ContainerSecurity {
  const security = message ?? none;
  refuseAppArmor(security);
  const { run_as_user: user, run_as_group: group, run_as_username: username } = security;
  if (user !== null && username !== '') {
    throw invalid(`${base}.run_as_username`, 'and run_as_user exclude each other');
  }
  if (group !== null && user === null && username === '') {
    throw invalid(`${base}.run_as_group`, 'needs run_as_user or run_as_username');
  }
  return {
    privileged: security.privileged,
    capabilities: {
      add: security.capabilities?.add_capabilities ?? [],
      drop: security.capabilities?.drop_capabilities ?? [],
      addAmbient: security.capabilities?.add_ambient_capabilities ?? [],
    },
    namespaces: parseNamespaces(security.namespace_options, 'container', `${base}.namespace_options`),
    runAsUser: user === null ? undefined : unixId(user.value, `${base}.run_as_user`),
    runAsGroup: group === null ? undefined : unixId(group.value, `${base}.run_as_group`),
    runAsUsername: plain(username, `${base}.run_as_username`),
    supplementalGroups: security.supplemental_groups.map((id) => unixId(id, `${base}.supplemental_groups`)),
    strictSupplementalGroups: groupPolicy(security.supplemental_groups_policy),
    readonlyRootfs: security.readonly_rootfs,
    noNewPrivileges: security.no_new_privs,
    maskedPaths: security.masked_paths.map((path) => absolute(path, `${base}.masked_paths`)),
    readonlyPaths: security.readonly_paths.map((path) => absolute(path, `${base}.readonly_paths`)),
    seccomp: seccomp(security),
  };
}
