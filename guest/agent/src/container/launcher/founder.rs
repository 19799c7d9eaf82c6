//! A process that makes a user namespace and others that belong to it, and then only stands for them. The
//! others are made as the root of the first: what the kernel makes with them (the file system of message
//! queues) is then that root's.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use super::{
    clone3::{BlockedSignals, CloneArguments, clone3},
    raw::raw,
};
use crate::{
    container::sys,
    reaper::{Pid, Reaper},
};

/// Ends when it is dropped.
pub struct Founder {
    pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
}

impl Founder {
    /// In a user namespace without any ids.
    pub fn start(reaper: &Reaper) -> io::Result<Self> {
        let (ours, theirs) = sys::message_socket_pair()?;
        let mut pidfd = -1;
        let (expected, _end) = reaper.expect();
        let signals = BlockedSignals::new();
        let pid = clone3(&CloneArguments::new(libc::CLONE_NEWUSER, &expected, &raw mut pidfd))?;
        if pid == 0 {
            // SAFETY: this is the child, with one thread and memory of its own.
            unsafe { found(theirs.as_raw_fd()) }
        }
        drop(signals);
        // SAFETY: clone3 has succeeded, so it has stored a descriptor that nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self {
            pid,
            pidfd,
            socket: ours,
        })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Makes the other namespaces, once ids are mapped.
    pub fn go_on(&self) -> io::Result<()> {
        sys::write(self.socket.as_fd(), &[1])?;
        let mut answer = [0; 4];
        match sys::read(self.socket.as_fd(), &mut answer)? {
            4 => match i32::from_ne_bytes(answer) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(-error)),
            },
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Founder {
    fn drop(&mut self) {
        // It can only fail for a process that is gone.
        let _ = sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// # Safety
/// The caller is the only thread of a process that shares no memory with the agent.
#[allow(unsafe_op_in_unsafe_fn, clippy::multiple_unsafe_ops_per_block)] // as in `child`
unsafe fn found(socket: RawFd) -> ! {
    let mut byte = 0u8;
    raw!(SYS_read, socket, std::ptr::from_mut(&mut byte), 1);
    let mut result = raw!(SYS_setresgid, 0, 0, 0);
    if result == 0 {
        result = raw!(SYS_setresuid, 0, 0, 0);
    }
    if result == 0 {
        let others = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        result = raw!(SYS_unshare, others);
    }
    #[allow(clippy::cast_possible_truncation)] // an error number
    let answer = (result as i32).to_ne_bytes();
    raw!(SYS_write, socket, answer.as_ptr(), answer.len());
    loop {
        raw!(SYS_pause);
    }
}
