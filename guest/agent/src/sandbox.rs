//! Turns an anonymous clone into one particular pod.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::mount::{MountFlags, UnmountFlags};
use thiserror::Error;
use tonic::Status;

use crate::{
    clock,
    container::user_namespace::{IdMap, Owner, UserNamespace},
    entropy, log, mounts,
    network::{
        Network,
        plan::{Invalid, Plan},
    },
    paths, pod_files,
    proto::{self, ConfigureSandboxRequest, ConfigureSandboxResponse, Dns},
    reaper::Reaper,
    share::Share,
    sysctl,
};

const DEFAULT_SHM_BYTES: i64 = 64 << 20;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug, Error)]
pub enum ConfigureError {
    #[error("{field}: {reason}")]
    Field { field: String, reason: String },
    #[error(transparent)]
    Network(#[from] Invalid),
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
}

impl From<ConfigureError> for Status {
    fn from(error: ConfigureError) -> Self {
        match error {
            ConfigureError::Field { .. } | ConfigureError::Network(_) => Status::invalid_argument(error.to_string()),
            ConfigureError::Step { .. } => Status::internal(error.to_string()),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    network: Network,
    share: Share,
    /// Parameters that were changed, with the values they had before.
    sysctls: Vec<(String, String)>,
    boot_id: String,
    user_namespace: Option<Arc<UserNamespace>>,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    state: Arc<Mutex<State>>,
}

impl Sandbox {
    /// Blocks. One call at a time; the later wins.
    pub fn configure(
        &self,
        request: &ConfigureSandboxRequest,
        reaper: &Reaper,
    ) -> Result<ConfigureSandboxResponse, ConfigureError> {
        let plan = Plan::new(request)?;
        check(request)?;
        let maps = request.user_namespace.as_ref().map(id_maps).transpose()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(maps, reaper)?;
        state.apply(request, &plan)?;
        Ok(ConfigureSandboxResponse {
            clock_ns: clock::now_ns(),
        })
    }

    /// What the pod has instead of the guest's own users and network.
    pub fn user_namespace(&self) -> Option<Arc<UserNamespace>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.user_namespace.clone()
    }

    /// Empty before the first configuration: the kernel makes the id when it is first read, and one
    /// that was made in a template would be shared by all clones.
    pub fn boot_id(&self) -> String {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .boot_id
            .clone()
    }
}

impl State {
    /// Once there is a pod in a user namespace, the guest is that pod's for ever.
    fn settle(&mut self, maps: Option<(IdMap, IdMap)>, reaper: &Reaper) -> Result<(), ConfigureError> {
        match (&self.user_namespace, maps) {
            (None, None) => Ok(()),
            (Some(namespace), Some((uids, gids))) if namespace.has(&uids, &gids) => Ok(()),
            (Some(_), _) => Err(ConfigureError::Field {
                field: "user_namespace".to_owned(),
                reason: "the guest has another one".to_owned(),
            }),
            (None, Some((uids, gids))) => {
                self.restore_sysctls();
                let namespace = step("user namespace", UserNamespace::create(uids, gids, reaper))?;
                step("network", self.network.move_to(namespace.network()))?;
                self.user_namespace = Some(Arc::new(namespace));
                Ok(())
            }
        }
    }

    fn apply(&mut self, request: &ConfigureSandboxRequest, plan: &Plan) -> Result<(), ConfigureError> {
        step("entropy", entropy::reseed(&request.entropy))?;
        if request.clock_ns != 0 {
            step("clock", clock::set_ns(request.clock_ns).map_err(Into::into))?;
        }
        step("boot id", self.read_boot_id())?;
        step("machine id", pod_files::write_machine_id(&request.machine_id))?;
        step(
            "hosts",
            pod_files::write_identity(&request.hostname, &request.domainname, &plan.addresses()),
        )?;
        step(
            "DNS",
            pod_files::write_resolver(request.dns.as_ref().unwrap_or(&Dns::default())),
        )?;
        let root = match self.user_namespace.clone() {
            None => {
                self.configure_kernel(request, plan)?;
                Owner::ROOT
            }
            Some(namespace) => {
                let configured = namespace.within(|| self.configure_kernel(request, plan));
                step("namespaces of the pod", configured)??;
                namespace.root()
            }
        };
        step("files of the pod", pod_files::give_to(root))?;
        step("shared memory", mount_shm(request.shm_size_bytes, root))?;
        step("share", self.share.mount(&request.share_tag))
    }

    /// What belongs to the namespaces of the calling thread.
    fn configure_kernel(&mut self, request: &ConfigureSandboxRequest, plan: &Plan) -> Result<(), ConfigureError> {
        step(
            "host name",
            rustix::system::sethostname(request.hostname.as_bytes()).map_err(Into::into),
        )?;
        step(
            "domain name",
            rustix::system::setdomainname(request.domainname.as_bytes()).map_err(Into::into),
        )?;
        step("network", self.network.apply(plan))?;
        self.set_sysctls(&request.sysctls)
    }

    fn read_boot_id(&mut self) -> io::Result<()> {
        if self.boot_id.is_empty() {
            std::fs::read_to_string(BOOT_ID)?.trim().clone_into(&mut self.boot_id);
        }
        Ok(())
    }

    fn restore_sysctls(&mut self) {
        for (name, value) in std::mem::take(&mut self.sysctls).iter().rev() {
            if let Err(error) = self.set_sysctl(name, value) {
                log!("restore {name}: {error}");
            }
        }
    }

    /// Parameters of the IPC namespace are for its own root alone.
    fn set_sysctl(&self, name: &str, value: &str) -> io::Result<String> {
        match (sysctl::set(name, value), &self.user_namespace) {
            (Err(error), Some(namespace)) if error.kind() == io::ErrorKind::PermissionDenied => {
                namespace.within_as_root(|| sysctl::set(name, value))?
            }
            (result, _) => result,
        }
    }

    fn set_sysctls(&mut self, wanted: &HashMap<String, String>) -> Result<(), ConfigureError> {
        self.restore_sysctls();
        for (name, value) in wanted {
            let before = self.set_sysctl(name, value).map_err(|source| refused(name, source))?;
            self.sysctls.push((name.clone(), before));
        }
        Ok(())
    }
}

/// A parameter that there is not, or a value that it cannot have, is the caller's mistake.
fn refused(name: &str, source: io::Error) -> ConfigureError {
    let step = format!("sysctl {name}");
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied => {
            ConfigureError::Field {
                field: step,
                reason: source.to_string(),
            }
        }
        _ => ConfigureError::Step { step, source },
    }
}

/// A fresh one each time: nothing of a rehearsal is left in it.
fn mount_shm(wanted_bytes: i64, root: Owner) -> io::Result<()> {
    let bytes = if wanted_bytes == 0 {
        DEFAULT_SHM_BYTES
    } else {
        wanted_bytes
    };
    let target = Path::new(paths::POD_SHM);
    mounts::unmount(target, UnmountFlags::DETACH)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = format!("mode=1777,size={bytes},uid={},gid={}", root.uid, root.gid);
    mounts::mount("shm", target, "tmpfs", flags, &options)
}

fn id_maps(request: &proto::UserNamespace) -> Result<(IdMap, IdMap), ConfigureError> {
    let parse = |kind: &str, mappings: &[proto::IdMapping]| {
        IdMap::parse(mappings).map_err(|reason| ConfigureError::Field {
            field: format!("user_namespace.{kind}"),
            reason: reason.to_owned(),
        })
    };
    Ok((parse("uids", &request.uids)?, parse("gids", &request.gids)?))
}

fn check(request: &ConfigureSandboxRequest) -> Result<(), ConfigureError> {
    let fail = |field: &str, reason: &str| {
        Err(ConfigureError::Field {
            field: field.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if !(entropy::MIN_BYTES..=entropy::MAX_BYTES).contains(&request.entropy.len()) {
        return fail("entropy", "must have 32 to 512 bytes");
    }
    let lower_hex = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    if request.machine_id.len() != 32 || !request.machine_id.bytes().all(lower_hex) {
        return fail("machine_id", "must have 32 lower-case hexadecimal digits");
    }
    for (field, name) in [("hostname", &request.hostname), ("domainname", &request.domainname)] {
        if name.len() > 64
            || !name
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it))
        {
            return fail(
                field,
                "must have at most 64 letters, digits, dots, dashes and underscores",
            );
        }
    }
    let plain = |it: &&String| !it.is_empty() && it.bytes().all(|it| it.is_ascii_graphic());
    if let Some(dns) = &request.dns {
        for (field, list) in [
            ("dns.servers", &dns.servers),
            ("dns.searches", &dns.searches),
            ("dns.options", &dns.options),
        ] {
            if list.iter().any(|it| !plain(&it)) {
                return fail(field, "must be words without white space");
            }
        }
    }
    if request.clock_ns < 0 {
        return fail("clock_ns", "must not be negative");
    }
    if request.shm_size_bytes < 0 {
        return fail("shm_size_bytes", "must not be negative");
    }
    if !request.share_tag.is_empty() && !plain(&&request.share_tag) {
        return fail("share_tag", "must be a word without white space");
    }
    Ok(())
}

fn step<T>(name: &str, result: io::Result<T>) -> Result<T, ConfigureError> {
    result.map_err(|source| ConfigureError::Step {
        step: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> ConfigureSandboxRequest {
        ConfigureSandboxRequest {
            entropy: vec![1; 32].into(),
            machine_id: "0".repeat(32),
            ..Default::default()
        }
    }

    #[test]
    fn accepts_the_smallest_request() {
        assert!(check(&valid()).is_ok());
    }

    #[test]
    fn names_what_is_wrong() {
        let field = |change: &dyn Fn(&mut ConfigureSandboxRequest)| {
            let mut request = valid();
            change(&mut request);
            check(&request)
                .unwrap_err()
                .to_string()
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(field(&|it| it.entropy = vec![1; 31].into()), "entropy");
        assert_eq!(field(&|it| it.entropy = vec![1; 513].into()), "entropy");
        assert_eq!(field(&|it| it.machine_id = "Z".repeat(32)), "machine_id");
        assert_eq!(field(&|it| it.hostname = "a b".to_owned()), "hostname");
        assert_eq!(field(&|it| it.hostname = "a".repeat(65)), "hostname");
        assert_eq!(field(&|it| it.domainname = "a\nb".to_owned()), "domainname");
        assert_eq!(field(&|it| it.clock_ns = -1), "clock_ns");
        assert_eq!(field(&|it| it.shm_size_bytes = -1), "shm_size_bytes");
        assert_eq!(field(&|it| it.share_tag = "a,b c".to_owned()), "share_tag");
        let dns = Dns {
            servers: vec!["1.1.1.1\noptions x".to_owned()],
            ..Default::default()
        };
        assert_eq!(field(&move |it| it.dns = Some(dns.clone())), "dns.servers");
    }
}
