//! Block devices by the serial that the host gave them.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
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

/// Which device had a serial when it was looked for last; at most one serial for each device. Disks come, go and get
/// other serials, so it only says where to look first: reading a serial waits for the host.
type Found = Mutex<BTreeMap<String, OsString>>;

static FOUND: Found = Mutex::new(BTreeMap::new());

/// The device node of the disk with that serial, e.g. /dev/vda.
pub fn find(serial: &str) -> Result<PathBuf, DiskError> {
    // It becomes part of paths and mount options.
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_".contains(&it);
    if !(1..=20).contains(&serial.len()) || !serial.bytes().all(plain) {
        return Err(DiskError::Serial(serial.chars().take(40).collect()));
    }
    let device = search(Path::new("/sys/block"), &FOUND, serial).map_err(DiskError::List)?;
    let device = device.ok_or_else(|| DiskError::NotFound(serial.to_owned()))?;
    Ok(Path::new("/dev").join(device))
}

fn search(devices: &Path, found: &Found, serial: &str) -> io::Result<Option<OsString>> {
    let found = || found.lock().unwrap_or_else(PoisonError::into_inner);
    let known = found().get(serial).cloned();
    if let Some(device) = known.filter(|it| has_serial(devices, it, serial)) {
        return Ok(Some(device));
    }
    for entry in fs::read_dir(devices)? {
        let device = entry?.file_name();
        if has_serial(devices, &device, serial) {
            let mut found = found();
            found.retain(|_, other| *other != device);
            found.insert(serial.to_owned(), device.clone());
            return Ok(Some(device));
        }
    }
    Ok(None)
}

fn has_serial(devices: &Path, device: &OsStr, serial: &str) -> bool {
    let read = |file: &str| fs::read(devices.join(device).join(file)).ok();
    // virtio-blk has a plain text attribute, SCSI disks VPD page 0x80 with a header of four bytes.
    let own = read("serial").or_else(|| read("device/vpd_pg80")?.get(4..).map(<[u8]>::to_vec));
    own.is_some_and(|it| it.trim_ascii() == serial.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Devices(PathBuf);

    impl Devices {
        fn set(&self, device: &str, serial: &str) {
            fs::create_dir_all(self.0.join(device)).unwrap();
            fs::write(self.0.join(device).join("serial"), serial).unwrap();
        }
    }

    impl Drop for Devices {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_serial_that_moves_is_found_again() {
        let devices = Devices(std::env::temp_dir().join(format!("kelyfos-disks-{}", std::process::id())));
        let found = Found::default();
        let search = |serial: &str| search(&devices.0, &found, serial).unwrap();
        devices.set("vda", "one");
        devices.set("vdb", "two");
        for _ in 0..2 {
            assert_eq!(search("one").unwrap(), "vda");
            assert_eq!(search("two").unwrap(), "vdb");
        }
        devices.set("vda", "two");
        devices.set("vdb", "one");
        assert_eq!(search("one").unwrap(), "vdb");
        assert_eq!(search("two").unwrap(), "vda");
        fs::remove_dir_all(devices.0.join("vda")).unwrap();
        assert_eq!(search("two"), None);
        devices.set("sda", "two");
        assert_eq!(search("two").unwrap(), "sda");
    }

    #[test]
    fn there_is_one_serial_for_each_device() {
        let devices = Devices(std::env::temp_dir().join(format!("kelyfos-serials-{}", std::process::id())));
        let found = Found::default();
        for serial in ["one", "two", "three"] {
            devices.set("sda", serial);
            assert_eq!(search(&devices.0, &found, serial).unwrap().unwrap(), "sda");
        }
        assert_eq!(found.lock().unwrap().len(), 1);
    }
}
