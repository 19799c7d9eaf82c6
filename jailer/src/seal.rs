//! Makes a template's memory unchangeable: clones get it open for reading and writing, because QEMU
//! insists, and the seals are what keeps one clone from changing it under all others.

use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::sys;

const SEALS: [(libc::c_int, &str); 4] = [
    (libc::F_SEAL_WRITE, "write"),
    (libc::F_SEAL_GROW, "grow"),
    (libc::F_SEAL_SHRINK, "shrink"),
    (libc::F_SEAL_SEAL, "seal"),
];

pub fn seal(path: &Path) -> Result<()> {
    let memory = sys::open(path, libc::O_RDWR).at("open memory", path)?;
    let wanted = SEALS.iter().fold(0, |all, (seal, _)| all | seal);
    // SAFETY: plain calls with a descriptor that is open.
    let present = sys::check(unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_GET_SEALS) }).at("read seals", path)?;
    if present & wanted != wanted {
        // SAFETY: as above.
        let outcome = sys::check(unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, wanted) });
        if let Err(error) = &outcome
            && error.raw_os_error() == Some(libc::EBUSY)
        {
            return Err(Error::Path {
                step: "seal memory",
                path: path.to_path_buf(),
                source: std::io::Error::other(
                    "a process still has it mapped shared and writable (has the template's QEMU ended?)",
                ),
            });
        }
        outcome.at("seal memory", path)?;
    }
    // SAFETY: as above.
    let present = sys::check(unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_GET_SEALS) }).at("read seals", path)?;
    let names: Vec<&str> = SEALS
        .iter()
        .filter(|(seal, _)| present & seal != 0)
        .map(|(_, name)| *name)
        .collect();
    println!("{}", names.join(","));
    Ok(())
}
