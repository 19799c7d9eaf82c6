//! Cgroups for Execs, children of the container's. Making one and removing it keeps the kernel busy for
//! longer than a short program takes, so one that has become empty is kept for the next Exec.

use std::sync::{Mutex, PoisonError};

use super::cgroup::{Cgroup, CgroupError};

/// More would be of use only when several Execs at once follow several others.
const MAX_SPARE: usize = 1;

#[derive(Debug, Default)]
struct State {
    made: u64,
    /// Empty when they came here.
    spare: Vec<Cgroup>,
    /// Of Execs that left processes behind.
    lingering: Vec<Cgroup>,
}

/// They go with the container's cgroup at the latest.
#[derive(Debug, Default)]
pub struct ExecCgroups {
    state: Mutex<State>,
}

impl ExecCgroups {
    /// One without processes, unless the container has put some of its own there since.
    pub fn take(&self, container: &Cgroup) -> Result<Cgroup, CgroupError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spare) = state.spare.pop() {
            return Ok(spare);
        }
        state.made += 1;
        container.create_child(&format!("exec-{}", state.made))
    }

    /// Keeps it or removes it once it is empty, which may be after a later Exec.
    pub fn release(&self, cgroup: Cgroup) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { spare, lingering, .. } = &mut *state;
        lingering.push(cgroup);
        lingering.retain(|it| {
            if spare.len() < MAX_SPARE && it.is_empty() {
                spare.push(it.clone());
                return false;
            }
            it.remove().is_err()
        });
    }

    /// For one that no program could be started in: the next Exec must not meet the same.
    pub fn discard(&self, cgroup: Cgroup) {
        if cgroup.remove().is_err() {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.lingering.push(cgroup);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path, process};

    use super::*;

    fn populate(container: &Path, name: &str, populated: u8) {
        fs::write(
            container.join(name).join("cgroup.events"),
            format!("populated {populated}\nfrozen 0\n"),
        )
        .unwrap();
    }

    /// A folder stands for the kernel's file system.
    #[test]
    fn an_empty_one_serves_again_and_a_busy_one_does_not() {
        let folder = env::temp_dir().join(format!("kelyfos-exec-cgroups-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let container = Cgroup::parent(&folder).unwrap().create_child("container").unwrap();
        let path = folder.join("containers/container");
        let cgroups = ExecCgroups::default();
        let first = cgroups.take(&container).unwrap();
        populate(&path, "exec-1", 1);
        cgroups.release(first);
        let second = cgroups.take(&container).unwrap();
        assert!(path.join("exec-2").exists());
        populate(&path, "exec-1", 0);
        populate(&path, "exec-2", 1);
        cgroups.release(second);
        drop(cgroups.take(&container).unwrap());
        assert!(!path.join("exec-3").exists(), "exec-1 should have served again");
        fs::remove_dir_all(&folder).unwrap();
    }
}
