//! Volumes of pods with a user namespace: what a file belongs to on disk, and what its owner is to QEMU and
//! the guest, are two numbers. 9p can send only the second; the mount that QEMU sees the volume through
//! translates.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::sys;

/// What a probe maps; any range does.
const PROBE: &str = "0:65536:65536";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    on_disk: u32,
    shown: u32,
    length: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<Extent>);

impl IdMap {
    /// From `ID_ON_DISK:ID_SHOWN:LENGTH`, several separated by commas.
    pub fn parse(option: &str, text: &str) -> Result<Self> {
        let bad = || Error::Usage(format!("{option}: {text} is not a list of DISK:SHOWN:LENGTH"));
        let extent = |words: &str| {
            let mut numbers = words.split(':').map(|word| word.parse().ok());
            let extent = Extent {
                on_disk: numbers.next()??,
                shown: numbers.next()??,
                length: numbers.next()??,
            };
            numbers.next().is_none().then_some(extent)
        };
        let extents: Option<Vec<_>> = text.split(',').map(extent).collect();
        extents.map(Self).ok_or_else(bad)
    }

    /// With one more id that is shown, the same as on disk, unless it stands for another one already.
    fn with(mut self, id: u32) -> Self {
        if !self.0.iter().any(|it| id >= it.shown && id - it.shown < it.length) {
            self.0.push(Extent {
                on_disk: id,
                shown: id,
                length: 1,
            });
        }
        self
    }

    /// As /proc/PID/uid_map takes it.
    fn text(&self) -> String {
        let lines = self
            .0
            .iter()
            .map(|it| format!("{} {} {}\n", it.on_disk, it.shown, it.length));
        lines.collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerMap {
    pub users: IdMap,
    pub groups: IdMap,
}

impl OwnerMap {
    /// Maps a mount that is still detached, for a process that makes files as itself and gives them away then.
    pub fn apply(&self, mount: &OwnedFd, pid: u32) -> Result<()> {
        let (user, group) = identity(pid)?;
        let namespace = namespace(&self.users.clone().with(user), &self.groups.clone().with(group))?;
        show_with(mount, &namespace).during("map the owners of the volume's file system")
    }
}

/// Fails where this host cannot map the owners of files below `folder`.
pub fn probe(folder: &Path) -> Result<()> {
    let map = IdMap::parse("probe", PROBE)?;
    let mount = sys::open_tree(folder, false).at("open", folder)?;
    let namespace = namespace(&map, &map)?;
    show_with(&mount, &namespace).at("map owners", folder)
}

fn show_with(mount: &OwnedFd, namespace: &OwnedFd) -> io::Result<()> {
    sys::map_mount(mount.as_fd(), namespace.as_fd()).map_err(|error| match error.raw_os_error() {
        // Of all that the kernel says so of, this is what is left here.
        Some(libc::EINVAL) => io::Error::new(io::ErrorKind::Unsupported, "not with this kind of file system"),
        _ => error,
    })
}

/// Effective user and group of a process.
fn identity(pid: u32) -> Result<(u32, u32)> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).at("read", &path)?;
    let id = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let both = id("Uid:").zip(id("Gid:"));
    both.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        .at("read", &path)
}

/// A user namespace that is nobody's: it only holds the mapping.
fn namespace(users: &IdMap, groups: &IdMap) -> Result<OwnedFd> {
    let process = sys::Bystander::start(libc::CLONE_NEWUSER).during("create user namespace")?;
    let folder = Path::new("/proc").join(process.pid().to_string());
    for (file, map) in [("uid_map", users), ("gid_map", groups)] {
        let path = folder.join(file);
        fs::write(&path, map.text()).at("map ids", &path)?;
    }
    let path = folder.join("ns/user");
    sys::open(&path, libc::O_RDONLY).at("open user namespace", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lists_of_three_numbers() {
        let map = IdMap::parse("--map-users", "0:65536:1000,5000:7:1").unwrap();
        assert_eq!(map.clone().with(9).text(), "0 65536 1000\n5000 7 1\n9 9 1\n");
        assert_eq!(map.with(65636).text(), "0 65536 1000\n5000 7 1\n");
        for text in ["", "0", "0:1", "0:1:2:3", "0:1:x", "0:1:2,", "-1:0:1", "0:4294967296:1"] {
            let error = IdMap::parse("--map-users", text).unwrap_err().to_string();
            assert!(error.starts_with("usage: --map-users: "), "{error}");
        }
    }
}
