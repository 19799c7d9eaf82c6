//! System calls of the agent's own side that the standard library lacks.
//!
//! What runs between clone3 and execve does not use these but `launcher::raw`.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub const RESOLVE_IN_ROOT: u64 = 0x10;

pub const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;

/// struct `open_how` of openat2(2).
#[repr(C)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

/// struct `mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub user_namespace: u64,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Takes over a descriptor that the kernel has just made.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check(result)?).map_err(|_| io::ErrorKind::Other)?;
    // SAFETY: the kernel has just returned it, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn openat2(directory: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    let flags = u64::from((flags | libc::O_CLOEXEC).unsigned_abs());
    let how = OpenHow {
        flags,
        mode: 0,
        resolve,
    };
    // SAFETY: path and how outlive the call, and the size is that of how.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            directory.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    owned(result)
}

/// Opens an absolute path of the guest that must not lead over any symbolic link.
pub fn open_guest_path(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: AT_FDCWD is a valid directory for as long as the process lives.
    let cwd = unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };
    openat2(cwd, path, flags, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
}

/// A detached copy of the mount that `source` is in, with `source` as its root.
pub fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let recursive = if recursive {
        libc::AT_RECURSIVE.unsigned_abs()
    } else {
        0
    };
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.unsigned_abs() | recursive;
    // SAFETY: the path is a static string; the call takes nothing else by pointer.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags) };
    owned(result)
}

pub fn set_mount_attributes(tree: BorrowedFd<'_>, attributes: MountAttributes, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes outlive the call, and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    check(result).map(drop)
}

/// A file system on a block device, not attached anywhere yet.
pub fn mount_detached(kind: &CStr, source: &CStr, readonly: bool) -> io::Result<OwnedFd> {
    const CMD_SET_FLAG: libc::c_uint = 0;
    const CMD_SET_STRING: libc::c_uint = 1;
    const CMD_CREATE: libc::c_uint = 6;
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: kind outlives the call.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>| {
        let pointer = |it: Option<&CStr>| it.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value outlive the call or are null.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        })
    };
    configure(CMD_SET_STRING, Some(c"source"), Some(source))?;
    if readonly {
        configure(CMD_SET_FLAG, Some(c"ro"), None)?;
    }
    configure(CMD_CREATE, None, None)?;
    // SAFETY: the call takes no pointers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

/// Moves this thread into a namespace of any kind but pid and user.
pub fn join_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) }.into()).map(drop)
}

/// For the calling thread only, unlike libc's functions of that name.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// Takes over two descriptors at once.
fn owned_pair(result: libc::c_int, ends: [RawFd; 2]) -> io::Result<(OwnedFd, OwnedFd)> {
    check(result.into())?;
    Ok((owned(ends[0].into())?, owned(ends[1].into())?))
}

/// A pipe: the end to read and the end to write, both close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for the two descriptors.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    owned_pair(made, ends)
}

/// A connected pair of datagram sockets that keep boundaries and tell when the other side is gone.
pub fn message_socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the array has room for the two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    owned_pair(made, ends)
}

pub fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: F_GETFL takes no further argument.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) }.into())?;
    let flags = libc::c_int::try_from(flags).unwrap_or(0) | libc::O_NONBLOCK;
    // SAFETY: F_SETFL takes an int.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags) }.into()).map(drop)
}

pub fn change_owner(fd: &impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::fchown(fd.as_fd().as_raw_fd(), uid, gid) }.into()).map(drop)
}

pub fn set_window_size(terminal: &impl AsFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the structure outlives the call and is what TIOCSWINSZ reads.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}

/// Reads what is there; 0 is the end.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of the buffer.
    let count = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of the slice.
    let count = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// One message and the descriptor that may have come with it; 0 bytes: the other side is gone.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    #[repr(C, align(8))]
    struct Control([u8; 32]);
    let mut control = Control([0; 32]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the header points to live buffers of the lengths it names.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recvmsg has filled the header in.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: null, or a header within `control`.
    let message = unsafe { first.as_ref() };
    let rights = message.filter(|it| it.cmsg_level == libc::SOL_SOCKET && it.cmsg_type == libc::SCM_RIGHTS);
    let descriptor = rights.map(|it| {
        // SAFETY: the data follows the header, within `control`.
        let data = unsafe { libc::CMSG_DATA(it) };
        // SAFETY: a message with rights holds at least one descriptor.
        unsafe { data.cast::<RawFd>().read_unaligned() }
    });
    Ok((count, descriptor.map(|fd| owned(fd.into())).transpose()?))
}

/// Whether a file of /proc could not be used because its process has ended.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Nanoseconds since the epoch.
pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|it| i64::try_from(it.as_nanos()).ok()).unwrap_or(0)
}
