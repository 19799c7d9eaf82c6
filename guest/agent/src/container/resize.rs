//! New limits for a container, or for all of a pod together, while they run.

use std::{collections::HashSet, fs, io};

use super::{
    cgroup::{self, Cgroup, CgroupError, Setting},
    sys,
};
use crate::{log, proto};

/// Processes that fork while their score is changed are found by looking again.
const MAX_PASSES: usize = 8;

/// All limits given, or none of them.
pub fn limits(cgroup: &Cgroup, resources: &proto::Resources) -> Result<(), CgroupError> {
    let settings = cgroup::settings(resources)?;
    make_room(cgroup, resources.memory_limit_bytes)?;
    let mut before = Vec::new();
    for setting in settings {
        let value = cgroup.read(&setting.file).ok();
        if let Err(error) = cgroup.apply(std::slice::from_ref(&setting)) {
            restore(cgroup, before);
            return Err(error);
        }
        before.extend(value.map(|value| Setting { value, ..setting }));
    }
    Ok(())
}

fn restore(cgroup: &Cgroup, before: Vec<Setting>) {
    for setting in before.into_iter().rev() {
        if let Err(error) = cgroup.apply(&[setting]) {
            log!("cannot take back a limit: {error}");
        }
    }
}

/// The kernel would end the container rather than refuse a limit that is below what it uses. Caches
/// are no use of memory in this sense: they are given back first.
fn make_room(cgroup: &Cgroup, limit: i64) -> Result<(), CgroupError> {
    let Ok(limit) = u64::try_from(limit) else { return Ok(()) };
    let Some(usage) = cgroup.number("memory.current") else {
        return Ok(());
    };
    if limit == 0 || usage <= limit {
        return Ok(());
    }
    // That not all of it can be had is seen by reading again.
    let _ = cgroup.write("memory.reclaim", &(usage - limit).to_string());
    match cgroup.number("memory.current") {
        Some(usage) if usage > limit => Err(CgroupError::InUse { limit, usage }),
        _ => Ok(()),
    }
}

/// The score of each process in the container.
pub fn oom_score_adj(cgroup: &Cgroup, score: i32) -> io::Result<()> {
    let mut done = HashSet::new();
    for _ in 0..MAX_PASSES {
        let fresh: Vec<_> = cgroup.processes().into_iter().filter(|pid| done.insert(*pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            match fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
                Err(error) if !sys::is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
