//! Thin safe wrappers of the kernel calls that libc has no function for, or an unsafe one.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The result of a libc function that returns -1 and sets errno.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for `syscall()`.
pub fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path holds a zero byte"))
}

/// Takes over a descriptor that the kernel has just made.
pub fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check_long(fd)?)
        .map_err(|_| io::Error::other("the kernel returned an impossible descriptor"))?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn open(path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `path` is a terminated string that outlives the call.
    owned(libc::c_long::from(unsafe {
        libc::open(path.as_ptr(), flags | libc::O_CLOEXEC)
    }))
}

/// A detached copy of the mount at `path`; with `recursive`, of what is mounted below it as well.
pub fn open_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: `path` is a terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// A fresh file system that is mounted nowhere yet.
pub fn new_filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    // Values of enum fsconfig_command and of the flags in <linux/mount.h>.
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const SET_STRING: libc::c_uint = 1;
    const CMD_CREATE: libc::c_uint = 6;
    // SAFETY: `kind` is a terminated string.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
        // SAFETY: key and value are terminated strings or null, as the command wants them.
        check_long(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) })
    };
    for (key, value) in options {
        configure(SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    configure(CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: plain numbers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

/// Attaches a detached mount at `target`, resolved from `directory` without following a last symbolic link.
pub fn move_mount(mount: BorrowedFd, directory: RawFd, target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: both strings are terminated and outlive the call.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            directory,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Sets flags, and with `propagation` other than 0 the propagation, of a mount that is still detached.
pub fn set_mount(mount: BorrowedFd, attributes: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    let request = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    set_attributes(mount, &request, recursive)
}

fn set_attributes(mount: BorrowedFd, request: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `request` is the structure the kernel expects, with its true size.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(request),
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Shows the files of a mount that is still detached with the ids that `namespace` makes of those on disk.
pub fn map_mount(mount: BorrowedFd, namespace: BorrowedFd) -> io::Result<()> {
    let request = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(namespace.as_raw_fd().unsigned_abs()),
    };
    set_attributes(mount, &request, false)
}

/// A child in namespaces of its own that does nothing, and ends when this is dropped.
pub struct Bystander(libc::pid_t);

impl Bystander {
    pub fn start(namespaces: libc::c_int) -> io::Result<Self> {
        let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
        // SAFETY: without a stack or CLONE_VM this is a fork.
        match check_long(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })? {
            0 => loop {
                // SAFETY: no option of this call takes a pointer here.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
                // SAFETY: no arguments. It ends by a signal from its parent, or with it.
                unsafe { libc::pause() };
            },
            pid => libc::pid_t::try_from(pid).map(Self).map_err(io::Error::other),
        }
    }

    pub fn pid(&self) -> libc::pid_t {
        self.0
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // SAFETY: a child that nobody has waited for yet, so the number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: a null status is allowed.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

/// Makes `descriptor` the inherited descriptor number `number`.
pub fn place(descriptor: &impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: plain descriptor numbers; dup2 clears close-on-exec on the copy.
    check(unsafe { libc::dup2(descriptor.as_fd().as_raw_fd(), number) })?;
    Ok(())
}

pub fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: the caller holds no owned descriptor in that range, or none it will use again.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// `bpf` with the leading fields of its attribute union.
pub fn bpf<T>(command: libc::c_int, request: &T) -> io::Result<libc::c_long> {
    // SAFETY: `request` is read only, with its true size; what it points at is the caller's to keep alive.
    check_long(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(request), size_of::<T>()) })
}

/// `prctl` with plain numbers.
pub fn prctl(option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: no option used in this crate takes a pointer.
    check(unsafe { libc::prctl(option, a, b, 0, 0) })
}
