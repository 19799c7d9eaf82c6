//! Hands one block device of the host to a QEMU whose jail shows none: open, over its monitor. QEMU gets
//! this device with these rights and no way to open another.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::error::{Context, Result};
use crate::sys;

/// Where the parent puts the socket.
const SOCKET: RawFd = 3;
/// Means nothing to the monitor; a descriptor cannot travel alone.
const COMPANION: u8 = b'\n';

pub fn pass(device: &Path, writable: bool) -> Result<()> {
    let access = if writable { libc::O_RDWR } else { libc::O_RDONLY };
    // Not blocking: an open that would wait for a medium is an error instead.
    let file = sys::open(device, access | libc::O_NONBLOCK).at("open block device", device)?;
    let file = File::from(file);
    if !file.metadata().at("look at", device)?.file_type().is_block_device() {
        return Err(io::Error::from_raw_os_error(libc::ENOTBLK)).at("open block device", device);
    }
    // SAFETY: a plain call with a descriptor that is open.
    sys::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) }).at("open block device", device)?;
    send(SOCKET, &OwnedFd::from(file)).at("pass block device", device)
}

fn send(socket: RawFd, descriptor: &OwnedFd) -> io::Result<()> {
    /// One control message as the kernel reads it, cmsg(3): a header and one descriptor behind it.
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        descriptor: RawFd,
    }
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<RawFd>(),
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        descriptor: descriptor.as_raw_fd(),
    };
    let mut companion = [COMPANION];
    let mut vector = libc::iovec {
        iov_base: companion.as_mut_ptr().cast(),
        iov_len: companion.len(),
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>();
    loop {
        // SAFETY: the header points to live buffers of the lengths it names.
        if unsafe { libc::sendmsg(socket, &raw const header, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => wait_writable(socket)?,
            _ => return Err(error),
        }
    }
}

/// The parent uses the socket without blocking.
fn wait_writable(socket: RawFd) -> io::Result<()> {
    const PATIENCE_MS: libc::c_int = 5_000;
    let mut waited = libc::pollfd {
        fd: socket,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one structure that outlives the call.
    match sys::check(unsafe { libc::poll(&raw mut waited, 1, PATIENCE_MS) })? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_line_feed_carries_the_descriptor() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        send(here.as_raw_fd(), &file).unwrap();
        let mut received = [0; 4];
        assert_eq!(there.read(&mut received).unwrap(), 1);
        assert_eq!(received[0], b'\n');
    }

    #[test]
    fn only_block_devices_are_opened() {
        let error = pass(Path::new("/dev/null"), false).unwrap_err().to_string();
        assert!(error.starts_with("open block device: /dev/null: "), "{error}");
    }
}
