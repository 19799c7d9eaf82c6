//! Devices that a request names by what the guest has: a disk, a device node, a folder of such nodes,
//! or all there are.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{device_program::DeviceError, user_namespace::UserNamespace};
use crate::{disks, proto};

const FOLDER: &str = "/dev";
/// Each container has its own of these, or none.
const OWN: [&str; 7] = ["pts", "shm", "mqueue", "fd", "ptmx", "console", "tty"];
const DEEPEST: u32 = 8;

/// The same devices, each with type, numbers, mode and the guest's numbers for its owner. What the guest does not
/// have is an error. All devices of the guest stay its own root's: in a user namespace, a privileged container sees
/// them and has no access.
pub fn resolve(devices: &[proto::Device], ids: Option<&UserNamespace>) -> Result<Vec<proto::Device>, DeviceError> {
    let mut resolved = Vec::new();
    for asked in devices {
        let mut device = asked.clone();
        if let (Some(ids), false) = (ids, device.all) {
            device.uid = ids.uid(device.uid)?;
            device.gid = ids.gid(device.gid)?;
        }
        let device = &device;
        if !device.disk.is_empty() {
            let node = disks::find(&device.disk)?;
            add(device, &node, &device.path, &mut resolved, 0)?;
        } else if !device.source.is_empty() {
            add(device, Path::new(&device.source), &device.path, &mut resolved, 0)?;
        } else if device.all {
            resolved.push(device.clone());
            add_all(device, &mut resolved)?;
        } else {
            resolved.push(device.clone());
        }
    }
    Ok(resolved)
}

fn add_all(device: &proto::Device, resolved: &mut Vec<proto::Device>) -> Result<(), DeviceError> {
    let template = proto::Device {
        all: false,
        ..device.clone()
    };
    for (name, path) in entries(Path::new(FOLDER))? {
        if !OWN.contains(&name.as_str()) {
            add(&template, &path, &format!("{FOLDER}/{name}"), resolved, 1)?;
        }
    }
    Ok(())
}

/// The device at `node`, or those in the folder there. Other files in a folder are passed over.
fn add(
    device: &proto::Device,
    node: &Path,
    path: &str,
    resolved: &mut Vec<proto::Device>,
    depth: u32,
) -> Result<(), DeviceError> {
    let found = match fs::symlink_metadata(node) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return absent(node);
        }
        Err(error) => return Err(list_failed(node, error)),
    };
    let kind = found.file_type();
    if kind.is_dir() && depth < DEEPEST {
        for (name, below) in entries(node)? {
            add(device, &below, &format!("{path}/{name}"), resolved, depth + 1)?;
        }
    } else if kind.is_char_device() || kind.is_block_device() {
        resolved.push(proto::Device {
            path: path.to_owned(),
            r#type: if kind.is_char_device() { "c" } else { "b" }.to_owned(),
            major: libc::major(found.rdev()).into(),
            minor: libc::minor(found.rdev()).into(),
            mode: if device.mode == 0 {
                found.mode() & 0o7777
            } else {
                device.mode
            },
            ..device.clone()
        });
    } else if depth == 0 {
        return absent(node);
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(String, std::path::PathBuf)>, DeviceError> {
    let names = fs::read_dir(folder).map_err(|error| list_failed(folder, error))?;
    let mut all = Vec::new();
    for entry in names {
        let entry = entry.map_err(|error| list_failed(folder, error))?;
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(all)
}

fn absent(node: &Path) -> Result<(), DeviceError> {
    let path = node.display().to_string();
    Err(DeviceError::Absent { path })
}

fn list_failed(node: &Path, source: io::Error) -> DeviceError {
    let path = node.display().to_string();
    DeviceError::List { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str, path: &str) -> proto::Device {
        proto::Device {
            path: path.to_owned(),
            source: source.to_owned(),
            access: "rw".to_owned(),
            mode: 0o600,
            ..Default::default()
        }
    }

    #[test]
    fn a_node_gives_its_type_and_numbers() {
        let [device] = &resolve(&[named("/dev/null", "/dev/nothing")], None).unwrap()[..] else {
            panic!()
        };
        assert_eq!((device.r#type.as_str(), device.major, device.minor), ("c", 1, 3));
        assert_eq!((device.path.as_str(), device.mode), ("/dev/nothing", 0o600));
    }

    #[test]
    fn what_is_not_there_or_no_device_is_an_error() {
        for source in ["/dev/nonsense", "/proc/self/exe"] {
            let error = resolve(&[named(source, "/dev/x")], None).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("devices: the guest has no device {source:?}")
            );
        }
    }

    #[test]
    fn others_stay_as_they_are() {
        let given = [proto::Device {
            path: "/dev/x".to_owned(),
            r#type: "c".to_owned(),
            major: 9,
            ..Default::default()
        }];
        assert_eq!(resolve(&given, None).unwrap(), given);
    }
}
