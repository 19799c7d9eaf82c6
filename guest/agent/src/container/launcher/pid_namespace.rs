//! Making children in the pid namespace of another process.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use super::raw::raw;

/// While it lives, children of this thread are made in another pid namespace.
pub struct PidNamespace;

static OWN_PID_NAMESPACE: OnceLock<OwnedFd> = OnceLock::new();

impl PidNamespace {
    pub fn enter(of: BorrowedFd<'_>) -> io::Result<Self> {
        // The way back must be known before the way in is taken.
        if OWN_PID_NAMESPACE.get().is_none() {
            let own = std::fs::File::open("/proc/self/ns/pid")?;
            let _ = OWN_PID_NAMESPACE.set(own.into());
        }
        set_pid_namespace(of)?;
        Ok(Self)
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        let back = OWN_PID_NAMESPACE.get().map(|own| set_pid_namespace(own.as_fd()));
        if !matches!(back, Some(Ok(()))) {
            // Every later container would end up in a namespace of another one.
            crate::log!("cannot return to the own pid namespace");
            std::process::abort();
        }
    }
}

fn set_pid_namespace(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    match unsafe { raw!(SYS_setns, fd.as_raw_fd(), libc::CLONE_NEWPID) } {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(i32::try_from(-error).unwrap_or(libc::EIO))),
    }
}
