import type { ContainerSecurity, SeccompSelection } from '../podsandbox/model.ts';
import { absolute, enumValue, invalid, plain, unixId, unsupported } from './fields.ts';
import type * as cri from './gen/cri-types.ts';
import { parseNamespaces } from './parse-namespaces.ts';

const base = 'config.linux.security_context';

const profileTypes = { RuntimeDefault: 'runtime-default', Unconfined: 'unconfined', Localhost: 'localhost' } as const;

interface Profile {
  readonly type: SeccompSelection['type'];
  /** With "localhost": which one. */
  readonly ref: string;
  /** Where that was said. */
  readonly field: string;
}

/** A profile by its message, or else by the spelling of before there was one, where empty is none. */
function profileOf(message: cri.SecurityProfile | null, name: string, old: string, oldName: string): Profile {
  if (message !== null) {
    const type = enumValue(message.profile_type, profileTypes, `${base}.${name}.profile_type`);
    return { type, ref: message.localhost_ref, field: `${base}.${name}.localhost_ref` };
  }
  const field = `${base}.${oldName}`;
  if (old === '' || old === 'unconfined') return { type: 'unconfined', ref: '', field };
  if (old === 'runtime/default' || old === 'docker/default') return { type: 'runtime-default', ref: '', field };
  const ref = /^localhost\/(.*)$/.exec(old)?.[1];
  if (ref === undefined) throw invalid(field, `"${old}" is not a profile`);
  return { type: 'localhost', ref, field };
}

function seccomp(security: cri.LinuxContainerSecurityContext): SeccompSelection {
  const { seccomp: message, seccomp_profile_path: old } = security;
  const { type, ref, field } = profileOf(message, 'seccomp', old, 'seccomp_profile_path');
  return { type, localhostRef: type === 'localhost' ? absolute(ref, field) : '' };
}

/** The guest has no AppArmor: its default profile stands for no profile, a particular one cannot be had. */
function refuseAppArmor(security: cri.LinuxContainerSecurityContext): void {
  const { apparmor: message, apparmor_profile: old } = security;
  const { type, ref } = profileOf(message, 'apparmor', old, 'apparmor_profile');
  if (type === 'localhost')
    throw unsupported(`${base}.apparmor`, `no AppArmor in the virtual machine for profile "${ref}"`);
}

/** Without SELinux labels have no effect, as with other runtimes; but what no system would take is an error. */
export function checkSelinux(options: cri.SELinuxOption | null, field: string): void {
  const level = options?.level ?? '';
  const category = 'c\\d{1,4}(\\.c\\d{1,4})?';
  if (level !== '' && !new RegExp(`^s\\d{1,2}(-s\\d{1,2})?(:${category}(,${category})*)?$`).test(level))
    throw invalid(`${field}.level`, `"${level}" is not a level such as s0:c1,c2`);
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
  checkSelinux(security.selinux_options, `${base}.selinux_options`);
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
