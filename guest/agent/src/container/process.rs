//! A process as requested, checked and resolved: what Create and Exec have in common.

use std::{
    ffi::{CString, NulError},
    os::fd::BorrowedFd,
    sync::Arc,
};

use thiserror::Error;

use super::{
    capabilities::{Capabilities, CapabilityError},
    guest_path,
    launcher::spec::{Program, ResourceLimit, Streams, StringList, Target},
    seccomp::{self, Programs, SeccompError},
    user_namespace::{Owner, Unmapped, UserNamespace},
    users::{self, Identity, UserError},
};
use crate::proto;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The kernel's own limit is 2 MiB for both together.
const MAX_STRINGS_BYTES: usize = 2 << 20;
const MAX_LIMITS: usize = 64;
/// Of open files where the request names none: what systemd gives a service, and so what containerd's containers have.
/// Programs that use select(2), or close all that they could have, rely on the soft one.
const DEFAULT_FILES: ResourceLimit = ResourceLimit {
    resource: libc::RLIMIT_NOFILE,
    soft: 1024,
    hard: 524_288,
};

#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("process.argv is empty")]
    NoProgram,
    #[error("process.argv and process.env have more than {MAX_STRINGS_BYTES} bytes")]
    TooLong,
    #[error("process.env: {0:?} is not NAME=value")]
    Environment(String),
    #[error("process.cwd: {0:?} is not an absolute path")]
    WorkingDirectory(String),
    #[error("process.rlimits: unknown limit {0:?}")]
    UnknownLimit(String),
    #[error("process.rlimits: {name}: soft limit {soft} is above the hard limit {hard}")]
    Limit { name: String, soft: u64, hard: u64 },
    #[error("process.rlimits: more than {MAX_LIMITS}")]
    TooManyLimits,
    #[error("process.oom_score_adj: {0} is not between -1000 and 1000")]
    OomScore(i32),
    #[error("process: a string has a null byte in it")]
    Null(#[from] NulError),
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("process.user: {0}")]
    Unmapped(#[from] Unmapped),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// Everything about a process but its arguments and streams.
#[derive(Clone)]
pub struct Profile {
    pub environment: Vec<String>,
    pub working_directory: String,
    pub identity: Identity,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub limits: Vec<ResourceLimit>,
    pub seccomp: Option<Arc<seccomp::Program>>,
    pub oom_score_adj: i32,
}

impl Profile {
    /// Users are looked up below `root`.
    pub fn resolve(
        process: &proto::Process,
        root: BorrowedFd<'_>,
        terminal: bool,
        programs: &Programs,
    ) -> Result<Self, ProcessError> {
        let identity = users::resolve(&process.user.clone().unwrap_or_default(), root)?;
        let capabilities = Capabilities::parse(&process.capabilities.clone().unwrap_or_default())?;
        if !(-1000..=1000).contains(&process.oom_score_adj) {
            return Err(ProcessError::OomScore(process.oom_score_adj));
        }
        let environment = environment(&process.env, identity.home.as_deref(), terminal)?;
        Ok(Self {
            environment,
            working_directory: working_directory(&process.cwd)?,
            seccomp: filter(process.seccomp.as_ref(), &capabilities, programs)?,
            limits: limits(&process.rlimits)?,
            no_new_privileges: process.no_new_privileges,
            oom_score_adj: process.oom_score_adj,
            identity,
            capabilities,
        })
    }

    /// Who the process is for the guest's kernel. All its groups have to be mapped, too.
    pub fn owner(&self, namespace: Option<&UserNamespace>) -> Result<Owner, Unmapped> {
        let Identity { uid, gid, groups, .. } = &self.identity;
        let Some(namespace) = namespace else {
            return Ok(Owner { uid: *uid, gid: *gid });
        };
        for group in groups {
            namespace.gid(*group)?;
        }
        Ok(Owner {
            uid: namespace.uid(*uid)?,
            gid: namespace.gid(*gid)?,
        })
    }

    /// The same with more in the environment.
    pub fn with_environment(&self, added: &[String], terminal: bool) -> Result<Self, ProcessError> {
        let all: Vec<String> = self.environment.iter().chain(added).cloned().collect();
        let environment = environment(&all, self.identity.home.as_deref(), terminal)?;
        Ok(Self {
            environment,
            ..self.clone()
        })
    }

    /// For the child. The score is written only if `oom_score` says so: an inherited one needs no write.
    pub fn program(&self, argv: &[String], streams: Streams, hold: bool) -> Result<Program, ProcessError> {
        let argv0 = argv
            .first()
            .filter(|it| !it.is_empty())
            .ok_or(ProcessError::NoProgram)?;
        let bytes: usize = argv.iter().chain(&self.environment).map(|it| it.len() + 1).sum();
        if bytes > MAX_STRINGS_BYTES {
            return Err(ProcessError::TooLong);
        }
        Ok(Program {
            arguments: StringList::new(argv)?,
            environment: StringList::new(&self.environment)?,
            candidates: candidates(argv0, &self.environment)?,
            working_directory: Target::new(&self.working_directory)?,
            uid: self.identity.uid,
            gid: self.identity.gid,
            groups: self.identity.groups.clone(),
            capabilities: self.capabilities,
            no_new_privileges: self.no_new_privileges,
            limits: self.limits.clone(),
            seccomp: self.seccomp.clone(),
            // The agent's own is 0, and children begin with that.
            oom_score: (self.oom_score_adj != 0).then(|| self.oom_score_adj.to_string().into_bytes()),
            streams,
            hold,
        })
    }
}

/// A name with a slash is taken as it is, relative to the working directory; others are looked for in
/// PATH.
fn candidates(argv0: &str, environment: &[String]) -> Result<Vec<CString>, NulError> {
    if argv0.contains('/') {
        return Ok(vec![CString::new(argv0)?]);
    }
    let path = environment
        .iter()
        .find_map(|it| it.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let folders = path.split(':').filter(|folder| folder.starts_with('/'));
    folders
        .map(|folder| CString::new(format!("{}/{argv0}", folder.trim_end_matches('/'))))
        .collect()
}

/// A later value wins, in the place of the first; PATH, HOME and TERM are added when missing.
fn environment(given: &[String], home: Option<&str>, terminal: bool) -> Result<Vec<String>, ProcessError> {
    let mut places = std::collections::HashMap::new();
    let mut environment: Vec<String> = Vec::with_capacity(given.len() + 3);
    for variable in given {
        let name = variable
            .split('=')
            .next()
            .filter(|name| !name.is_empty() && name.len() < variable.len());
        let name = name.ok_or_else(|| ProcessError::Environment(variable.chars().take(100).collect()))?;
        if let Some(place) = places.get(name).and_then(|place: &usize| environment.get_mut(*place)) {
            place.clone_from(variable);
        } else {
            places.insert(name, environment.len());
            environment.push(variable.clone());
        }
    }
    let mut add = |name: &str, value: &str| {
        if !places.contains_key(name) {
            environment.push(format!("{name}={value}"));
        }
    };
    add("PATH", DEFAULT_PATH);
    add("HOME", home.unwrap_or("/"));
    if terminal {
        add("TERM", "xterm");
    }
    Ok(environment)
}

fn working_directory(given: &str) -> Result<String, ProcessError> {
    if given.is_empty() {
        return Ok("/".to_owned());
    }
    let bad = || ProcessError::WorkingDirectory(given.chars().take(256).collect());
    guest_path::clean(given).ok_or_else(bad)
}

fn filter(
    requested: Option<&proto::Seccomp>,
    capabilities: &Capabilities,
    programs: &Programs,
) -> Result<Option<Arc<seccomp::Program>>, SeccompError> {
    use proto::seccomp::Kind;
    let Some(requested) = requested else {
        return programs.default_for(capabilities.bounding).map(Some);
    };
    match requested.kind() {
        Kind::Unconfined => Ok(None),
        Kind::RuntimeDefault => programs.default_for(capabilities.bounding).map(Some),
        Kind::Profile => programs.custom(&requested.profile, capabilities.bounding).map(Some),
    }
}

/// By number, as <asm-generic/resource.h> has them.
const LIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

fn limits(requested: &[proto::Rlimit]) -> Result<Vec<ResourceLimit>, ProcessError> {
    if requested.len() > MAX_LIMITS {
        return Err(ProcessError::TooManyLimits);
    }
    let mut limits = requested.iter().map(limit).collect::<Result<Vec<_>, _>>()?;
    if !limits.iter().any(|it| it.resource == DEFAULT_FILES.resource) {
        limits.push(DEFAULT_FILES);
    }
    Ok(limits)
}

fn limit(requested: &proto::Rlimit) -> Result<ResourceLimit, ProcessError> {
    let name = &requested.r#type;
    let index = name
        .strip_prefix("RLIMIT_")
        .and_then(|short| LIMITS.iter().position(|known| *known == short));
    let resource = index.and_then(|index| u32::try_from(index).ok());
    let resource = resource.ok_or_else(|| ProcessError::UnknownLimit(name.clone()))?;
    let (soft, hard) = (requested.soft, requested.hard);
    if soft > hard {
        return Err(ProcessError::Limit {
            name: name.clone(),
            soft,
            hard,
        });
    }
    Ok(ResourceLimit { resource, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn programs_are_looked_for_in_the_containers_path() {
        let found = |argv0: &str, env: &[&str]| {
            let found = candidates(argv0, &strings(env)).unwrap();
            found
                .into_iter()
                .map(|it| it.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("sh", &["PATH=/a:/b/::c"]), ["/a/sh", "/b/sh"]);
        assert_eq!(found("./sh", &["PATH=/a"]), ["./sh"]);
        assert_eq!(found("/bin/sh", &[]), ["/bin/sh"]);
        assert_eq!(found("sh", &[]).len(), 6);
        assert_eq!(found("sh", &["PATH="]), [""; 0]);
    }

    #[test]
    fn the_environment_is_completed() {
        let path = format!("PATH={DEFAULT_PATH}");
        let plain = environment(&strings(&["A=1", "B=", "A=2"]), Some("/root"), false).unwrap();
        assert_eq!(plain, ["A=2", "B=", path.as_str(), "HOME=/root"]);
        let full = environment(&strings(&["HOME=/x", "PATH=/y", "TERM=vt100"]), None, true).unwrap();
        assert_eq!(full, ["HOME=/x", "PATH=/y", "TERM=vt100"]);
        assert_eq!(
            environment(&[], None, true).unwrap(),
            [path.as_str(), "HOME=/", "TERM=xterm"]
        );
        for bad in ["", "A", "=x"] {
            assert!(environment(&strings(&[bad]), None, false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_have_the_kernels_numbers() {
        let request = |name: &str, soft, hard| proto::Rlimit {
            r#type: name.to_owned(),
            soft,
            hard,
        };
        let limit = limit(&request("RLIMIT_NOFILE", 1, 2)).unwrap();
        assert_eq!(
            limit,
            ResourceLimit {
                resource: libc::RLIMIT_NOFILE,
                soft: 1,
                hard: 2
            }
        );
        assert_eq!(
            LIMITS.iter().position(|it| *it == "RTPRIO"),
            Some(libc::RLIMIT_RTPRIO as usize)
        );
        assert_eq!(limits(&[request("RLIMIT_NOFILE", 1, 2)]).unwrap(), [limit]);
        assert_eq!(limits(&[]).unwrap(), [DEFAULT_FILES]);
        assert!(limits(&[request("NOFILE", 1, 2)]).is_err());
        assert!(limits(&[request("RLIMIT_NOFILE", 3, 2)]).is_err());
    }

    #[test]
    fn working_directories_are_absolute() {
        assert_eq!(working_directory("").unwrap(), "/");
        assert_eq!(working_directory("/srv/../app/").unwrap(), "/app");
        assert!(working_directory("app").is_err());
    }
}
