//! Block devices by the serial that the host gave them.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

#[derive(Debug, Error)]
pub enum DiskError {
    #[error("no disk with serial {0:?}")]
    NotFound(String),
    #[error("cannot list disks: {0}")]
    List(#[source] io::Error),
}

/// The device node of the disk with that serial, e.g. /dev/vda.
pub fn find(serial: &str) -> Result<PathBuf, DiskError> {
    for entry in fs::read_dir("/sys/block").map_err(DiskError::List)?.flatten() {
        let path = entry.path();
        let found = ["serial", "device/vpd_pg80"].iter().any(|file| {
            fs::read(path.join(file)).is_ok_and(|bytes| serial_of(file, &bytes).is_some_and(|it| it == serial.as_bytes()))
        });
        if found {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(DiskError::NotFound(serial.to_owned()))
}

/// virtio-blk has a plain text attribute; SCSI disks have VPD page 0x80 with a four byte header.
fn serial_of<'a>(file: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let text = if file == "serial" { bytes } else { bytes.get(4..)? };
    Some(text.trim_ascii())
}
