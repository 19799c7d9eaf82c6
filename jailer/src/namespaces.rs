//! Namespaces and cgroups. The pid namespace stays the host's: a new one would need a fork, and the
//! process id that the parent spawned would no longer be QEMU's. An own /proc with hidepid and the
//! lack of `CAP_KILL` and `CAP_SYS_PTRACE` stand in for it.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Context, Result};
use crate::sys;

/// Moves this process into a cgroup, of either version.
pub fn join_cgroup(folder: &Path) -> Result<()> {
    let procs = folder.join("cgroup.procs");
    // 0 means the writer.
    fs::write(&procs, "0").at("join cgroup", &procs)
}

pub fn join_network(path: &Path) -> Result<()> {
    let namespace = sys::open(path, libc::O_RDONLY).at("open network namespace", path)?;
    // SAFETY: a plain call with a descriptor that is open.
    sys::check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).at("join network namespace", path)?;
    Ok(())
}

/// Goes where the mounts of another process are; its root becomes this process's root.
pub fn join_mounts(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/mnt");
    let path = Path::new(&path);
    let namespace = sys::open(path, libc::O_RDONLY).at("open mount namespace", path)?;
    // SAFETY: a plain call with a descriptor that is open.
    sys::check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }).at("join mount namespace", path)?;
    Ok(())
}

/// Own mounts, System V and POSIX IPC, host name and view of cgroups.
pub fn leave_host() -> Result<()> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    // SAFETY: a plain call; this process has one thread.
    sys::check(unsafe { libc::unshare(flags) }).during("create namespaces")?;
    let name = c"vm";
    // SAFETY: `name` is as long as stated.
    sys::check(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).during("set host name")?;
    Ok(())
}

/// A session of its own, so that a signal to the daemon's process group or terminal does not end pods.
pub fn lead_session() -> Result<()> {
    // SAFETY: no pointers.
    let session = unsafe { libc::getsid(0) };
    // SAFETY: no pointers.
    if session != unsafe { libc::getpid() } {
        // SAFETY: no pointers.
        sys::check(unsafe { libc::setsid() }).during("create session")?;
    }
    Ok(())
}

/// Keys of the parent's session keyring (network mounts, for instance) stay behind.
pub fn leave_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let outcome = sys::check_long(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0, 0, 0, 0) });
    match outcome {
        // Kernels without key management, and containers whose seccomp profile refuses it, have nothing to leave.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EDQUOT)) => Ok(()),
        outcome => outcome.during("leave session keyring").map(drop),
    }
}
