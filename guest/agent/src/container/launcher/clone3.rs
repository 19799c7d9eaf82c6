//! clone3(2), with memory that is a copy of the parent's or, as after vfork(2), the parent's own.

use std::{arch::asm, io};

use super::raw::raw;
use crate::reaper::{Expected, Pid};

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// struct `clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
pub struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArguments {
    /// `flags`: those for namespaces. The kernel writes a descriptor to `pidfd`, before the child runs.
    pub fn new(flags: libc::c_int, child: &Expected, pidfd: *mut libc::c_int) -> Self {
        let always = libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID;
        Self {
            flags: u64::from((flags | always).unsigned_abs()) | CLONE_CLEAR_SIGHAND,
            pidfd: pidfd as u64,
            parent_tid: child.place() as u64,
            exit_signal: libc::SIGCHLD.unsigned_abs().into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn into_cgroup(mut self, cgroup: libc::c_int) -> Self {
        self.flags |= CLONE_INTO_CGROUP;
        self.cgroup = u64::from(cgroup.unsigned_abs());
        self
    }
}

/// 0 in the child, which goes on on a copy of this stack and must do nothing that takes a lock.
pub fn clone3(arguments: &CloneArguments) -> io::Result<Pid> {
    // SAFETY: the size is that of the structure. Without CLONE_VM the child has memory of its own.
    checked(unsafe { raw!(SYS_clone3, std::ptr::from_ref(arguments), size_of::<CloneArguments>()) })
}

/// The child calls `run` with `argument`, in this memory and below this function on its stack, while this thread
/// waits in the kernel until the child has executed a program or has ended. Other threads go on.
///
/// # Safety
/// `run` must be sound in a process of its own that shares the memory of this one: it may read what `argument`
/// points to, must write nothing but its own stack, and use nothing that is kept per thread.
pub unsafe fn vfork<T>(
    mut arguments: CloneArguments,
    run: unsafe extern "C" fn(&T) -> !,
    argument: &T,
) -> io::Result<Pid> {
    #[allow(clippy::cast_possible_truncation)] // a word is a word
    const NUMBER: isize = libc::SYS_clone3 as isize;
    arguments.flags |= u64::from((libc::CLONE_VM | libc::CLONE_VFORK).unsigned_abs());
    let result: isize;
    // SAFETY: the system call convention, as in `raw`. The child leaves this block only downwards, by the call: what
    // it puts on the stack is below what the parent has there.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") NUMBER => result,
            in("rdi") std::ptr::from_ref(&arguments),
            in("rsi") size_of::<CloneArguments>(),
            in("r12") run,
            in("r13") std::ptr::from_ref(argument),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    checked(result)
}

fn checked(result: isize) -> io::Result<Pid> {
    if result < 0 {
        let errno = i32::try_from(-result).unwrap_or(libc::EIO);
        return Err(io::Error::from_raw_os_error(errno));
    }
    Pid::try_from(result).map_err(io::Error::other)
}

/// No signal handler of the agent may run in the child before its handlers are reset.
pub struct BlockedSignals {
    previous: u64,
}

impl BlockedSignals {
    pub fn new() -> Self {
        let (all, mut previous) = (u64::MAX, 0u64);
        let (all, old) = (std::ptr::from_ref(&all), std::ptr::from_mut(&mut previous));
        // SAFETY: both point to signal sets of 8 bytes that outlive the call.
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, all, old, 8) };
        Self { previous }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        let previous = std::ptr::from_ref(&self.previous);
        // SAFETY: points to a signal set of 8 bytes that outlives the call.
        unsafe { raw!(SYS_rt_sigprocmask, libc::SIG_SETMASK, previous, 0, 8) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;
    use crate::reaper::Reaper;

    /// # Safety
    /// It makes one system call.
    unsafe extern "C" fn tell_and_exit(told: &AtomicI32) -> ! {
        told.store(7, Ordering::Release);
        loop {
            // SAFETY: it ends this process and nothing else.
            unsafe { raw!(SYS_exit_group, 3) };
        }
    }

    #[test]
    fn after_vfork_both_have_the_same_memory_and_the_parent_goes_on_after_the_child() {
        let told = AtomicI32::new(0);
        let mut pidfd = -1;
        let (expected, _watch) = Reaper::default().expect();
        let arguments = CloneArguments::new(0, &expected, &raw mut pidfd);
        // SAFETY: the child writes to an atomic and ends.
        let pid = unsafe { vfork(arguments, tell_and_exit, &told) }.unwrap();
        assert_eq!(told.load(Ordering::Acquire), 7);
        assert_eq!(expected.pid(), Some(pid));
        let mut status = 0;
        // SAFETY: waitpid writes only to `status`.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 3);
        // SAFETY: clone3 has stored a descriptor that nobody else owns.
        unsafe { libc::close(pidfd) };
    }
}
