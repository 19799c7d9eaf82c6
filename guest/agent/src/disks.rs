//! Block devices by the serial that the host gave them.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

#[derive(Debug, Error)]
pub enum DiskError {
    #[error("no disk has the serial {0:?}")]
    NotFound(String),
    #[error("{0:?} is not the serial of a disk")]
    Serial(String),
    #[error("cannot list disks: {0}")]
    List(#[source] io::Error),
}

/// The device node of the disk with that serial, e.g. /dev/vda.
pub fn find(serial: &str) -> Result<PathBuf, DiskError> {
    // It becomes part of paths and mount options.
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_".contains(&it);
    if !(1..=20).contains(&serial.len()) || !serial.bytes().all(plain) {
        return Err(DiskError::Serial(serial.chars().take(40).collect()));
    }
    for entry in fs::read_dir("/sys/block").map_err(DiskError::List)? {
        let entry = entry.map_err(DiskError::List)?;
        let read = |file: &str| fs::read(entry.path().join(file)).ok();
        // virtio-blk has a plain text attribute, SCSI disks VPD page 0x80 with a header of four bytes.
        let own = read("serial").or_else(|| read("device/vpd_pg80")?.get(4..).map(<[u8]>::to_vec));
        if own.is_some_and(|it| it.trim_ascii() == serial.as_bytes()) {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(DiskError::NotFound(serial.to_owned()))
}

const UNUSED_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until no file system is mounted from a disk any more. The kernel says so by letting it be
/// opened exclusively.
pub fn until_unused(device: &Path) -> io::Result<()> {
    let deadline = Instant::now() + UNUSED_WITHIN;
    let mut exclusive = fs::OpenOptions::new();
    exclusive.read(true).custom_flags(libc::O_EXCL);
    loop {
        match exclusive.open(device) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            outcome => return outcome.map(drop),
        }
    }
}
