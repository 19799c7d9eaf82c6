//! The profile of `RUNTIME_DEFAULT`: what container images have come to expect, calls that only serve
//! to attack the kernel left out, and calls that a capability implies let through with it.

use std::collections::BTreeMap;

use super::{
    policy::{Action, CallPolicy, Compare, Filter, Operator, Policy, Rule},
    syscalls::numbers,
};
use crate::container::capabilities::{Capability, CapabilitySet};

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// `AF_VSOCK` reaches the host side of the machine, which is none of the container's business.
const AF_VSOCK: u64 = 40;
/// All `CLONE_NEW*` flags but `CLONE_NEWTIME`, which shares a bit with the exit signal.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// `PER_LINUX`, `PER_LINUX32`, either with `UNAME26`, and the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Let through for every container.
#[rustfmt::skip]
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod \
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock \
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 \
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch \
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 \
    io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek \
    lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
    mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv \
    msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause \
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 \
    preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmmsg_time64 recvmsg \
    remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 \
    sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 \
    setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall \
    socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee \
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill \
    truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork \
    vmsplice wait4 waitid waitpid write writev";

/// Let through for a container whose bounding set has the capability.
const WITH_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DAC_READ_SEARCH, "open_by_handle_at"),
    (
        Capability::SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
         umount2 unshare",
    ),
    (Capability::SYS_BOOT, "reboot"),
    (Capability::SYS_CHROOT, "chroot"),
    (Capability::SYS_MODULE, "delete_module finit_module init_module"),
    (Capability::SYS_PACCT, "acct"),
    (Capability::SYS_PTRACE, "kcmp pidfd_getfd process_madvise"),
    (Capability::SYS_RAWIO, "ioperm iopl"),
    (Capability::SYS_TIME, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SYS_TTY_CONFIG, "vhangup"),
    (
        Capability::SYS_NICE,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::SYSLOG, "syslog"),
    (Capability::BPF, "bpf"),
    (Capability::PERFMON, "perf_event_open"),
];

/// The default profile for a container with this bounding set.
pub fn default_filter(bounding: CapabilitySet) -> Filter {
    let calls = calls(bounding);
    Filter {
        native: policy(&calls, |numbers| numbers.0),
        i386: Some(policy(&calls, |numbers| numbers.1)),
        flags: 0,
    }
}

fn calls(bounding: CapabilitySet) -> BTreeMap<&'static str, CallPolicy> {
    let mut calls = BTreeMap::new();
    calls.insert("socket", CallPolicy::when(allow_if(Operator::NotEqual(AF_VSOCK))));
    let personalities = PERSONALITIES.into_iter().map(|it| allow_if(Operator::Equal(it)));
    calls.insert(
        "personality",
        CallPolicy {
            rules: personalities.collect(),
            otherwise: None,
        },
    );
    let threads_only = Operator::MaskedEqual {
        mask: CLONE_NAMESPACES,
        value: 0,
    };
    calls.insert("clone", CallPolicy::when(allow_if(threads_only)));
    // Its flags are in memory, where no filter sees them; with ENOSYS the C libraries take clone.
    calls.insert("clone3", CallPolicy::always(Action::Errno(ENOSYS)));
    let with_capability = WITH_CAPABILITY
        .iter()
        .filter(|(capability, _)| bounding.contains(*capability));
    for name in ALWAYS
        .split_whitespace()
        .chain(with_capability.flat_map(|(_, names)| names.split_whitespace()))
    {
        calls.insert(name, CallPolicy::always(Action::Allow));
    }
    calls
}

fn allow_if(operator: Operator) -> Rule {
    Rule {
        compares: vec![Compare { index: 0, operator }],
        action: Action::Allow,
    }
}

type Numbers = (Option<u16>, Option<u16>);

fn policy(calls: &BTreeMap<&str, CallPolicy>, number: impl Fn(Numbers) -> Option<u16>) -> Policy {
    let known = calls
        .iter()
        .filter_map(|(name, call)| Some((u32::from(number(numbers(name)?)?), call.clone())));
    Policy {
        default: Action::Errno(EPERM),
        calls: known.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_table() {
        let conditional = WITH_CAPABILITY.iter().flat_map(|(_, names)| names.split_whitespace());
        for name in ALWAYS.split_whitespace().chain(conditional) {
            assert!(numbers(name).is_some(), "{name}");
        }
    }

    #[test]
    fn nothing_dangerous_is_let_through_by_default() {
        let calls = calls(CapabilitySet::default());
        for name in "add_key bpf chroot finit_module io_uring_setup kexec_load keyctl mount open_by_handle_at \
                     perf_event_open pivot_root quotactl reboot request_key setns swapon unshare userfaultfd"
            .split_whitespace()
        {
            assert!(!calls.contains_key(name), "{name}");
        }
    }
}
