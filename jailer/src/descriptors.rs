//! Descriptors that QEMU inherits, by fixed number. They are opened here, as root, because inside the
//! jail neither the paths nor the right to open them exist.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::sys;

pub const TAP: RawFd = 10;
pub const MEMORY: RawFd = 11;
pub const STATE_FILE: RawFd = 12;
/// The first of the listening sockets, in the order they were asked for; there may be [`MAX_SOCKETS`].
pub const FIRST_SOCKET: RawFd = 13;
pub const MAX_SOCKETS: usize = 3;
pub const CONSOLE: RawFd = 16;

/// As `ifr_flags` takes them: 16 bits of which the highest is the sign.
#[allow(clippy::cast_possible_truncation)]
const TAP_FLAGS: libc::c_short = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;

/// Descriptors below this are moved up when opened, out of the way of the fixed numbers.
const FIRST_FREE: RawFd = 20;

/// Opened descriptors and the numbers they are to have.
#[derive(Default)]
pub struct Inherited(Vec<(RawFd, OwnedFd)>);

/// Closes what the parent left open, except for stdio.
pub fn close_inherited() -> Result<()> {
    sys::close_range(3, libc::c_uint::MAX).during("close descriptors")
}

pub fn open_memory(path: &Path) -> Result<OwnedFd> {
    sys::open(path, libc::O_RDWR).at("open memory", path)
}

/// Opened through a read-only mount of just this file, made in a namespace of our own: QEMU could otherwise reopen
/// `/proc/self/fd/12` for writing, which `CAP_DAC_OVERRIDE` would allow, and change a template.
pub fn open_state_file(path: &Path) -> Result<OwnedFd> {
    let mount = sys::open_tree(path, false).at("open state file", path)?;
    sys::set_mount(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, libc::MS_PRIVATE, false)
        .at("make state file read-only", path)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    let file = sys::open(&through, libc::O_RDONLY).at("open state file", path)?;
    // Closing a mount that was never attached makes the kernel wait for all processors, for milliseconds.
    // Attached to this namespace's copy of the host's tree, it goes together with that.
    sys::move_mount(mount.as_fd(), libc::AT_FDCWD, path).at("attach state file", path)?;
    Ok(file)
}

/// A socket that only root may connect to. It is made here and not by QEMU, so that its name lies where QEMU cannot
/// replace it.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    // SAFETY: a plain number; the mask is off until the jail's own files are made.
    unsafe { libc::umask(0o177) };
    let socket = UnixListener::bind(path).at("listen on", path);
    // SAFETY: as above.
    unsafe { libc::umask(0) };
    Ok(socket?.into())
}

/// A file that is written from now on and grows at its end, whoever cuts it short meanwhile.
pub fn open_log(path: &Path) -> Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .at("open log", path)?;
    Ok(file.into())
}

/// Attaches to a tap that exists in the network namespace this process has joined.
pub fn open_tap(name: &CStr) -> Result<OwnedFd> {
    let shown = PathBuf::from(name.to_string_lossy().into_owned());
    // TUNSETIFF would silently make a missing tap, which then vanishes with QEMU.
    // SAFETY: `name` is a terminated string.
    if unsafe { libc::if_nametoindex(name.as_ptr()) } == 0 {
        return Err(std::io::Error::last_os_error()).at("find tap", shown);
    }
    let device = Path::new("/dev/net/tun");
    let tap = sys::open(device, libc::O_RDWR | libc::O_NONBLOCK).at("open tap", device)?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = TAP_FLAGS;
    // SAFETY: `request` is the structure that TUNSETIFF reads and writes.
    sys::check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
        .at("attach to tap", shown)?;
    Ok(tap)
}

impl Inherited {
    /// Opens what `path` names, if anything, for the descriptor with that number.
    pub fn add<T: ?Sized>(
        &mut self,
        number: RawFd,
        name: Option<&T>,
        open: impl FnOnce(&T) -> Result<OwnedFd>,
    ) -> Result<()> {
        if let Some(name) = name {
            self.0.push((number, open(name)?));
        }
        Ok(())
    }

    /// Puts each at its number and closes everything else but stdio.
    pub fn place(self) -> Result<()> {
        // Out of the way first: an opened descriptor may have got one of the fixed numbers by chance.
        let mut moved = Vec::new();
        for (number, descriptor) in self.0 {
            // SAFETY: a plain call with a descriptor that is open.
            let high = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_FREE) };
            moved.push((number, sys::check(high).during("move descriptor")?));
        }
        sys::close_range(3, FIRST_FREE as libc::c_uint - 1).during("close descriptors")?;
        for (number, high) in moved {
            // SAFETY: `high` was opened just above and is closed below.
            let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(high) };
            sys::place(&descriptor, number).during("place descriptor")?;
        }
        sys::close_range(FIRST_FREE as libc::c_uint, libc::c_uint::MAX).during("close descriptors")
    }
}

/// Gives a file or folder to the pod's user.
pub fn give(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).at("give to user", path)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).at("set mode", path)
}
