use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

use crate::error::{Error, Result};

/// Makes a tap that stays when nobody has it open. It has no owner: only a process with CAP_NET_ADMIN, the jailer before
/// it drops its privileges, can open it. It must ask for IFF_VNET_HDR too, or offloads are lost.
pub fn make(name: &str) -> Result<()> {
    attach(name).map_err(Error::during(format!("make {name}")))
}

fn attach(name: &str) -> io::Result<()> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    // With its zero byte.
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel reads and writes one ifreq.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: the descriptor is open; the argument is a plain number.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
