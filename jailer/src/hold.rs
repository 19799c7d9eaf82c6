//! Keeps a template's memory alive. The memory file has no name in any file system: it exists as long
//! as a process holds it, and the daemon may restart.

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Context, Result};
use crate::{capabilities, descriptors, namespaces, sys};

/// Where root finds it: /proc/PID/fd/3.
const HELD: RawFd = 3;
/// "nobody". The process cannot be traced, so others with this id get no hold of it.
const NOBODY: u32 = 65534;

pub fn hold(name: &CStr, size: u64) -> Result<Infallible> {
    descriptors::close_inherited()?;
    let memory = create(name).during("create memory")?;
    File::from(memory.try_clone().during("create memory")?)
        .set_len(size)
        .during("size memory")?;
    if memory.as_raw_fd() != HELD {
        sys::place(&memory, HELD).during("place memory")?;
    }
    namespaces::lead_session()?;
    std::env::set_current_dir("/").at("change folder", "/")?;
    let never = never_ready().during("create pipe")?;
    capabilities::drop_privileges(NOBODY, NOBODY, capabilities::NONE)?;
    // /proc/PID belongs to root and takes CAP_SYS_PTRACE; no core dump either.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).during("forbid tracing")?;
    let mut out = io::stdout();
    out.write_all(b"ready\n")
        .and_then(|()| out.flush())
        .during("say ready")?;
    sys::close_range(0, 2).during("close stdio")?;
    // From here on only read, write and exit exist.
    sys::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT.into(), 0).during("enter seccomp")?;
    let mut byte = 0u8;
    loop {
        // SAFETY: one byte of room. Nobody has the other end, so this blocks until the process is killed.
        unsafe { libc::read(never, (&raw mut byte).cast(), 1) };
    }
}

fn create(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC;
    // SAFETY: `name` is a terminated string.
    let mut memory = unsafe { libc::memfd_create(name.as_ptr(), flags | libc::MFD_NOEXEC_SEAL) };
    if memory == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Kernels before 6.3 do not know non-executable memory files.
        // SAFETY: as above.
        memory = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    }
    let memory = sys::check(memory)?;
    // SAFETY: just created, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(memory) })
}

/// The reading end of a pipe whose writing end stays open and unused in this process.
fn never_ready() -> io::Result<RawFd> {
    let mut ends = [0; 2];
    // SAFETY: room for the two descriptors.
    sys::check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok(ends[0])
}
