//! Resource limits that QEMU starts with.

use std::io;
use std::str::FromStr;

use crate::error::{Context, Result};
use crate::sys;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    name: &'static str,
    resource: libc::__rlimit_resource_t,
    soft: libc::rlim_t,
    hard: libc::rlim_t,
}

const RESOURCES: [(&str, libc::__rlimit_resource_t); 11] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("stack", libc::RLIMIT_STACK),
];

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("--rlimit: {text} is not NAME=N"))?;
        let (name, resource) = RESOURCES
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("--rlimit: {name} is not a known limit"))?;
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let (soft, hard) = (amount(name, soft)?, amount(name, hard)?);
        if soft > hard {
            return Err(format!("--rlimit: {name}: the soft limit exceeds the hard one"));
        }
        Ok(Self {
            name,
            resource,
            soft,
            hard,
        })
    }
}

fn amount(name: &str, text: &str) -> std::result::Result<libc::rlim_t, String> {
    if text == "unlimited" {
        return Ok(libc::RLIM_INFINITY);
    }
    text.parse()
        .map_err(|_| format!("--rlimit: {name}: {text} is neither a number nor unlimited"))
}

/// Sets the limits. A hard limit that may not be raised (no `CAP_SYS_RESOURCE`, as in many containers)
/// stays where it is with a warning: it is a convenience, while a lowered one is a protection.
pub fn apply(limits: &[Limit]) -> Result<()> {
    for limit in limits {
        match set(limit.resource, limit.soft, limit.hard) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let (_, hard) = get(limit.resource).at("read rlimit", limit.name)?;
                set(limit.resource, limit.soft.min(hard), hard).at("set rlimit", limit.name)?;
                eprintln!(
                    "kelyfos-jailer: warning: rlimit {}: stays at {hard}, may not be raised to {}",
                    limit.name, limit.hard
                );
            }
            outcome => outcome.at("set rlimit", limit.name)?,
        }
    }
    Ok(())
}

/// No core dumps: they would put guest memory on the host's disk. A core pattern with a pipe ignores
/// the limit, so the dump's contents are filtered out as well.
pub fn forbid_core_dumps() -> Result<()> {
    set(libc::RLIMIT_CORE, 0, 0).at("set rlimit", "core")?;
    std::fs::write("/proc/self/coredump_filter", "0").at("filter core dumps", "/proc/self/coredump_filter")
}

/// No huge pages, whatever the program asks for: QEMU does for each of its memory blocks and for its
/// translated code, and would have 2 MiB where it needs 128 KiB.
pub fn forbid_huge_pages() -> Result<()> {
    // SAFETY: plain numbers; the kernel wants those that mean nothing to be zero.
    sys::check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).at("forbid", "huge pages")?;
    Ok(())
}

fn get(resource: libc::__rlimit_resource_t) -> io::Result<(libc::rlim_t, libc::rlim_t)> {
    let mut current = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `current` is a valid place for the kernel to write to.
    sys::check(unsafe { libc::getrlimit(resource, &raw mut current) })?;
    Ok((current.rlim_cur, current.rlim_max))
}

fn set(resource: libc::__rlimit_resource_t, soft: libc::rlim_t, hard: libc::rlim_t) -> io::Result<()> {
    let wanted = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `wanted` is a valid structure that outlives the call.
    sys::check(unsafe { libc::setrlimit(resource, &raw const wanted) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_both_limits() {
        let limit: Limit = "nofile=1024".parse().unwrap();
        assert_eq!((limit.name, limit.soft, limit.hard), ("nofile", 1024, 1024));
    }

    #[test]
    fn soft_and_hard_are_told_apart() {
        let limit: Limit = "fsize=5:unlimited".parse().unwrap();
        assert_eq!((limit.soft, limit.hard), (5, libc::RLIM_INFINITY));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!("NOFILE=1".parse::<Limit>().unwrap().name, "nofile");
        for text in [
            "",
            "nofile",
            "nofile=",
            "nofile=x",
            "nofile=-1",
            "rtprio=1",
            "nofile=2:1",
            "nofile=1:2:3",
        ] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
