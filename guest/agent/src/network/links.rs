//! Which interface is which virtio-net device.

use std::{fs, io, path::PathBuf};

const NET: &str = "/sys/class/net";

/// Index of the interface of that name.
pub fn index_of(name: &str) -> io::Result<u32> {
    let text = fs::read_to_string(PathBuf::from(NET).join(name).join("ifindex"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// Names of the interfaces that are PCI devices, in PCI order.
pub fn nics() -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(NET)? {
        let entry = entry?;
        // e.g. /sys/devices/pci0000:00/0000:00:03.0/virtio1; lo has none.
        let Ok(device) = fs::canonicalize(entry.path().join("device")) else {
            continue;
        };
        if let Ok(name) = entry.file_name().into_string() {
            found.push((device, name));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}
