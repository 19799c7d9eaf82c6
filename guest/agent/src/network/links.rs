//! Which interface is which virtio-net device.

use std::{ffi::CString, fs, io, path::Path};

const NET: &str = "/sys/class/net";

/// Index of the interface of that name in the calling thread's network namespace.
pub fn index_of(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the name is a terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Indices of the interfaces that are PCI devices, in PCI order.
pub fn nics() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(NET)? {
        let entry = entry?;
        // e.g. /sys/devices/pci0000:00/0000:00:03.0/virtio1; lo has none.
        let Ok(device) = fs::canonicalize(entry.path().join("device")) else {
            continue;
        };
        found.push((device, index_in(&entry.path())?));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, index)| index).collect())
}

fn index_in(folder: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(folder.join("ifindex"))?;
    text.trim().parse().map_err(io::Error::other)
}
