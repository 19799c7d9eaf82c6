//! One cgroup (v2) for each container, with a child for each program run inside it.
//!
//! The limits are on the container's cgroup; its children have no controllers enabled, so processes
//! may be in both. A child lets a time-out end exactly what one Exec has started.

use std::{
    fs,
    io::{self, Write},
    os::fd::OwnedFd,
    os::unix::fs::{OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::user_namespace::Owner;
use crate::proto;

const CONTROLLERS: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];
/// Names of the files that belong to who divides a cgroup.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
/// After SIGKILL only a task in an uninterruptible sleep takes longer.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum CgroupError {
    #[error("cgroup {path}: {step}: {source}")]
    Step {
        path: String,
        step: &'static str,
        source: io::Error,
    },
    #[error("resources.{field}: cannot set {file} to {value:?}: {source}")]
    Limit {
        field: &'static str,
        file: String,
        value: String,
        source: io::Error,
    },
    #[error("resources.unified: {0:?} is not the name of a cgroup file")]
    UnifiedName(String),
    #[error("resources.memory_limit_bytes: {limit} is below the {usage} bytes in use")]
    InUse { limit: u64, usage: u64 },
    #[error("cgroup {0} still has processes {1} s after they were killed")]
    Busy(String, u64),
}

/// A value for one file; `optional`: a guest without that file is as good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub field: &'static str,
    pub file: String,
    pub value: String,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The parent of all containers' cgroups, its controllers enabled. Cheap when it exists.
    pub fn parent(root: &Path) -> Result<Self, CgroupError> {
        let parent = Self {
            path: root.join("containers"),
        };
        if !parent.path.join("cgroup.procs").exists() {
            enable_controllers(root);
            parent.make()?;
            enable_controllers(&parent.path);
        }
        Ok(parent)
    }

    /// Whether it exists or not.
    pub fn child(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
        }
    }

    pub fn create_child(&self, name: &str) -> Result<Self, CgroupError> {
        let child = self.child(name);
        child.make()?;
        Ok(child)
    }

    fn make(&self) -> Result<(), CgroupError> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(self.failed("create", error)),
            _ => Ok(()),
        }
    }

    /// For `CLONE_INTO_CGROUP` and for attaching a program.
    pub fn open(&self) -> Result<OwnedFd, CgroupError> {
        let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(&self.path);
        file.map(OwnedFd::from).map_err(|error| self.failed("open", error))
    }

    /// Makes the cgroup its owner's, who may divide it further; its limits stay the agent's (cgroups(7),
    /// "Cgroups delegation").
    pub fn delegate(&self, owner: Owner) -> Result<(), CgroupError> {
        let failed = |error| self.failed("delegate", error);
        let files = fs::read_to_string(DELEGATE).map_err(failed)?;
        let give = |path: &Path| match chown(path, Some(owner.uid), Some(owner.gid)) {
            // Of a controller that there is not.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed),
        };
        give(&self.path)?;
        files.lines().try_for_each(|file| give(&self.path.join(file)))
    }

    pub fn apply(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        for setting in settings {
            let written = self.write(&setting.file, &setting.value);
            match written {
                Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let (file, value) = (setting.file.clone(), setting.value.clone());
                    return Err(CgroupError::Limit {
                        field: setting.field,
                        file,
                        value,
                        source,
                    });
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    pub fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.path.join(file))?
            .write_all(value.as_bytes())
    }

    pub fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    /// None if there is no such file or no number in it.
    pub fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.trim().parse().ok()
    }

    /// Names of what can be read and written.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|it| it.file_name().into_string().ok()).collect()
    }

    /// SIGKILL to all processes here and below, new ones included.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match self.write("cgroup.kill", "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| self.failed("kill", error)),
        }
    }

    /// All processes here and below, by their number in the guest's root pid namespace.
    pub fn processes(&self) -> Vec<libc::pid_t> {
        let mut found = Vec::new();
        let mut pending = vec![self.path.clone()];
        while let Some(path) = pending.pop() {
            let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            found.extend(
                text.lines()
                    .filter_map(|line| line.parse::<libc::pid_t>().ok())
                    .filter(|pid| *pid > 0),
            );
            pending.extend(children(&path));
        }
        found
    }

    /// True if no process lives here or below.
    pub fn is_empty(&self) -> bool {
        let events = self.read("cgroup.events").unwrap_or_default();
        value_of(&events, "populated") == Some(0)
    }

    /// How often the kernel has killed a process here or below for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.read("memory.events")
            .ok()
            .and_then(|text| value_of(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// Removes it with what the container has made below it. All processes must be gone.
    pub fn remove(&self) -> Result<(), CgroupError> {
        remove_tree(&self.path).map_err(|error| self.failed("remove", error))
    }

    /// Ends all processes, waits until they are gone, and removes the cgroup.
    pub async fn destroy(&self) -> Result<(), CgroupError> {
        self.kill()?;
        let deadline = tokio::time::Instant::now() + EMPTY_TIMEOUT;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.remove() {
                Err(CgroupError::Step { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {}
                other => return other,
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(CgroupError::Busy(
                    self.path.display().to_string(),
                    EMPTY_TIMEOUT.as_secs(),
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn failed(&self, step: &'static str, source: io::Error) -> CgroupError {
        CgroupError::Step {
            path: self.path.display().to_string(),
            step,
            source,
        }
    }
}

/// One by one: a controller that the kernel lacks must not keep the others out.
fn enable_controllers(path: &Path) {
    let available = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    for controller in CONTROLLERS {
        if available.split_whitespace().any(|it| it == controller) {
            // A limit that needs it will be refused by name if this has failed.
            let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|it| it.path())
        .collect()
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for child in children(path) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The number behind `key` in a file of `key value` lines.
pub fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// What to write where for the limits asked for.
pub fn settings(resources: &proto::Resources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    let mut set = |field: &'static str, file: &str, value: String, optional: bool| {
        settings.push(Setting {
            field,
            file: file.to_owned(),
            value,
            optional,
        });
    };
    if resources.cpu_shares != 0 {
        set(
            "cpu_shares",
            "cpu.weight",
            weight(resources.cpu_shares).to_string(),
            false,
        );
    }
    if resources.cpu_quota_us != 0 || resources.cpu_period_us != 0 {
        let quota = if resources.cpu_quota_us > 0 {
            resources.cpu_quota_us.to_string()
        } else {
            "max".to_owned()
        };
        let period = if resources.cpu_period_us == 0 {
            100_000
        } else {
            resources.cpu_period_us
        };
        set("cpu_quota_us", "cpu.max", format!("{quota} {period}"), false);
    }
    if !resources.cpuset_cpus.is_empty() {
        set("cpuset_cpus", "cpuset.cpus", resources.cpuset_cpus.clone(), false);
    }
    if !resources.cpuset_mems.is_empty() {
        set("cpuset_mems", "cpuset.mems", resources.cpuset_mems.clone(), false);
    }
    if resources.memory_limit_bytes != 0 {
        set(
            "memory_limit_bytes",
            "memory.max",
            limit(resources.memory_limit_bytes),
            false,
        );
    }
    if let Some(swap) = swap_limit(resources.memory_limit_bytes, resources.memory_swap_bytes) {
        // A guest without swap has no such file, and no swap to limit.
        set("memory_swap_bytes", "memory.swap.max", swap, true);
    }
    if resources.pids_limit != 0 {
        set("pids_limit", "pids.max", limit(resources.pids_limit), false);
    }
    let mut unified: Vec<_> = resources.unified.iter().collect();
    unified.sort();
    for (file, value) in unified {
        let named = file
            .split_once('.')
            .is_some_and(|(controller, name)| !controller.is_empty() && !name.is_empty());
        if !named || file.contains(['/', '\0']) || file.starts_with("cgroup.") {
            return Err(CgroupError::UnifiedName(file.clone()));
        }
        let optional = matches!(value.trim(), "" | "0" | "max");
        set("unified", file, value.clone(), optional);
    }
    Ok(settings)
}

fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Shares of cgroup v1 (2 to 262144, 1024 by default) on the scale of v2 (1 to 10000), linearly, so
/// that the proportions between containers stay.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// OCI counts memory and swap together, cgroup v2 swap alone.
fn swap_limit(memory: i64, memory_and_swap: i64) -> Option<String> {
    match memory_and_swap {
        0 => None,
        it if it < 0 => Some("max".to_owned()),
        it if memory > 0 => Some((it - memory).max(0).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(resources: &proto::Resources) -> Vec<(String, String)> {
        let all = settings(resources).unwrap();
        all.into_iter().map(|it| (it.file, it.value)).collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 39, 10000, 10000]);
    }

    #[test]
    fn nothing_asked_for_is_nothing_set() {
        assert_eq!(files(&proto::Resources::default()), []);
    }

    #[test]
    fn limits_go_to_their_files() {
        let resources = proto::Resources {
            cpu_shares: 2,
            cpu_quota_us: 50_000,
            memory_limit_bytes: 1 << 20,
            memory_swap_bytes: 3 << 20,
            pids_limit: -1,
            cpuset_cpus: "0-1".to_owned(),
            ..Default::default()
        };
        let expected = [
            pair("cpu.weight", "1"),
            pair("cpu.max", "50000 100000"),
            pair("cpuset.cpus", "0-1"),
            pair("memory.max", "1048576"),
            pair("memory.swap.max", "2097152"),
            pair("pids.max", "max"),
        ];
        assert_eq!(files(&resources), expected);
    }

    #[test]
    fn quotas_and_swap_can_be_lifted() {
        let resources = proto::Resources {
            cpu_quota_us: -1,
            cpu_period_us: 20_000,
            memory_swap_bytes: -1,
            ..Default::default()
        };
        assert_eq!(
            files(&resources),
            [pair("cpu.max", "max 20000"), pair("memory.swap.max", "max")]
        );
    }

    #[test]
    fn unified_takes_file_names_only() {
        let with = |file: &str| proto::Resources {
            unified: [(file.to_owned(), "0".to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(files(&with("memory.high")), [pair("memory.high", "0")]);
        for bad in ["../memory.max", "memory", "cgroup.procs", "cgroup.kill", ".max", "a./b"] {
            assert!(settings(&with(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_found_by_key() {
        let text = "low 0\noom 2\noom_kill 3\n";
        assert_eq!(value_of(text, "oom_kill"), Some(3));
        assert_eq!(value_of(text, "oom"), Some(2));
        assert_eq!(value_of(text, "max"), None);
    }
}
