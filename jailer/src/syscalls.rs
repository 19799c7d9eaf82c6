//! A seccomp filter beneath QEMU's own. QEMU's `-sandbox` leaves out much that a taken-over process
//! would reach for first: user namespaces (in which it would be root towards most of the kernel),
//! `bpf`, `io_uring`, keys, other address families. Refused calls fail as if the kernel lacked them,
//! so that a QEMU that only probes for one goes on.

use std::io;
use std::mem::offset_of;

use crate::error::{Context, Result};
use crate::sys;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// From here on system calls of the x32 interface begin: the same calls under other numbers.
#[cfg(target_arch = "x86_64")]
const FOREIGN_NUMBERS: u32 = 0x4000_0000;
#[cfg(not(target_arch = "x86_64"))]
const FOREIGN_NUMBERS: u32 = u32::MAX;

const REFUSED: &[libc::c_long] = &[
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Large and often broken parts of the kernel that QEMU does without.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Network of the pod and unix sockets. Vsock, for one, knows no network namespaces.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

const NEW_NAMESPACE: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Opcodes of classic BPF that the filter uses.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

const fn fail(errno: libc::c_int) -> libc::sock_filter {
    step(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

/// System call numbers are small.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
const fn number(call: libc::c_long) -> u32 {
    call as u32
}

/// Offsets into `struct seccomp_data`, which are small.
#[allow(clippy::cast_possible_truncation)]
const fn at(offset: usize) -> u32 {
    offset as u32
}

fn filter() -> Vec<libc::sock_filter> {
    const NUMBER: u32 = at(offset_of!(libc::seccomp_data, nr));
    // The low half, as both architectures are little-endian.
    const FIRST_ARGUMENT: u32 = at(offset_of!(libc::seccomp_data, args));
    let mut code = vec![
        step(LOAD, at(offset_of!(libc::seccomp_data, arch))),
        jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, NUMBER),
        jump(JUMP_AT_LEAST, FOREIGN_NUMBERS, 0, 1),
        fail(libc::ENOSYS),
        // The C library falls back to clone, whose flags can be looked at.
        jump(JUMP_EQUAL, number(libc::SYS_clone3), 0, 1),
        fail(libc::ENOSYS),
    ];
    for call in REFUSED {
        code.push(jump(JUMP_EQUAL, number(*call), 0, 1));
        code.push(fail(libc::EPERM));
    }
    code.extend([
        jump(JUMP_EQUAL, number(libc::SYS_clone), 0, 4),
        step(LOAD, FIRST_ARGUMENT),
        jump(JUMP_ANY_BIT, NEW_NAMESPACE.cast_unsigned(), 0, 1),
        fail(libc::EPERM),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        jump(JUMP_EQUAL, number(libc::SYS_socket), 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(LOAD, FIRST_ARGUMENT),
    ]);
    for family in FAMILIES {
        code.push(jump(JUMP_EQUAL, family.cast_unsigned(), 0, 1));
        code.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    code.push(fail(libc::EAFNOSUPPORT));
    code
}

/// For this process and whatever it becomes. Needs no-new-privs.
pub fn restrict() -> Result<()> {
    let mut code = filter();
    let mut install = || -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(code.len()).map_err(io::Error::other)?,
            filter: code.as_mut_ptr(),
        };
        // SAFETY: the program outlives the call, and the kernel copies it.
        sys::check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) })?;
        Ok(())
    };
    install().during("restrict system calls")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter returns for a call, by interpreting it.
    fn verdict(architecture: u32, call: u32, argument: libc::c_int) -> u32 {
        let code = filter();
        let mut accumulator = 0;
        let mut next = 0;
        loop {
            let libc::sock_filter {
                code: operation,
                jt,
                jf,
                k,
            } = code[next];
            next += 1;
            let condition = match operation {
                LOAD => {
                    accumulator = match k {
                        0 => call,
                        4 => architecture,
                        16 => argument.cast_unsigned(),
                        other => panic!("offset {other}"),
                    };
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => accumulator == k,
                JUMP_AT_LEAST => accumulator >= k,
                JUMP_ANY_BIT => accumulator & k != 0,
                other => panic!("operation {other:#x}"),
            };
            next += usize::from(if condition { jt } else { jf });
        }
    }

    fn errno(errno: libc::c_int) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
    }

    #[test]
    fn ordinary_calls_pass() {
        for call in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_mknodat,
            libc::SYS_fchownat,
            libc::SYS_futex,
        ] {
            assert_eq!(verdict(ARCHITECTURE, number(call), 0), libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn each_listed_call_is_refused() {
        for call in REFUSED {
            assert_eq!(verdict(ARCHITECTURE, number(*call), 0), errno(libc::EPERM));
        }
    }

    #[test]
    fn threads_can_be_made_and_namespaces_not() {
        let clone = number(libc::SYS_clone);
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FS;
        assert_eq!(verdict(ARCHITECTURE, clone, thread), libc::SECCOMP_RET_ALLOW);
        assert_eq!(
            verdict(ARCHITECTURE, clone, thread | libc::CLONE_NEWUSER),
            errno(libc::EPERM)
        );
        assert_eq!(verdict(ARCHITECTURE, number(libc::SYS_clone3), 0), errno(libc::ENOSYS));
    }

    #[test]
    fn sockets_are_those_of_the_pod() {
        let socket = number(libc::SYS_socket);
        for family in FAMILIES {
            assert_eq!(verdict(ARCHITECTURE, socket, family), libc::SECCOMP_RET_ALLOW);
        }
        for family in [libc::AF_VSOCK, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_ALG, 0, -1] {
            assert_eq!(verdict(ARCHITECTURE, socket, family), errno(libc::EAFNOSUPPORT));
        }
    }

    #[test]
    fn other_interfaces_are_closed() {
        assert_eq!(
            verdict(0x4000_0003, number(libc::SYS_read), 0),
            libc::SECCOMP_RET_KILL_PROCESS
        );
        assert_eq!(verdict(ARCHITECTURE, FOREIGN_NUMBERS, 0), errno(libc::ENOSYS));
    }
}
