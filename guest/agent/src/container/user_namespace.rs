//! The user namespace of a pod: inside, its users have the numbers that its images and files know;
//! outside, for the guest's kernel and in what the share sends to the host, they are others. The pod's
//! network, IPC objects and host name belong to it, so that its root rules them and nothing else.
//!
//! Nothing has to run in a namespace for it to stay: the agent holds it by descriptors.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    thread,
};

use thiserror::Error;

use super::{
    launcher::Founder,
    sys::{self, MountAttributes},
};
use crate::{proto, reaper::Reaper};

/// The kernel takes so many lines.
const MAX_EXTENTS: usize = 340;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{what} {id} is not in the pod's user namespace")]
pub struct Unmapped {
    what: &'static str,
    id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    length: u32,
}

/// From the ids inside to those outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap(Vec<Extent>);

impl IdMap {
    /// The error says what is wrong with the mappings.
    pub fn parse(mappings: &[proto::IdMapping]) -> Result<Self, &'static str> {
        if mappings.is_empty() || mappings.len() > MAX_EXTENTS {
            return Err("must have 1 to 340 entries");
        }
        let fits = |first: u32, length: u32| first.checked_add(length).is_some();
        if mappings
            .iter()
            .any(|it| it.length == 0 || !fits(it.container_id, it.length) || !fits(it.host_id, it.length))
        {
            return Err("has an entry that is empty or goes beyond the last id");
        }
        let extents = mappings.iter().map(|it| Extent {
            inside: it.container_id,
            outside: it.host_id,
            length: it.length,
        });
        let map = Self(extents.collect());
        if map.overlaps(|it| it.inside) || map.overlaps(|it| it.outside) {
            return Err("has entries that overlap");
        }
        map.outside(0).ok_or("does not map id 0")?;
        Ok(map)
    }

    pub fn outside(&self, id: u32) -> Option<u32> {
        let extent = self.0.iter().find(|it| id >= it.inside && id - it.inside < it.length)?;
        Some(extent.outside + (id - extent.inside))
    }

    fn overlaps(&self, first: impl Fn(&Extent) -> u32) -> bool {
        let mut ranges: Vec<_> = self.0.iter().map(|it| (first(it), first(it) + it.length)).collect();
        ranges.sort_unstable();
        ranges.windows(2).any(|pair| pair[1].0 < pair[0].1)
    }

    /// As /proc/PID/uid_map takes it.
    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, it| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {} {}", it.inside, it.outside, it.length);
            text
        })
    }
}

/// User and group as the guest's kernel knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

#[derive(Debug)]
pub struct UserNamespace {
    uids: IdMap,
    gids: IdMap,
    root: Owner,
    user: OwnedFd,
    /// Network, IPC and host name.
    others: [OwnedFd; 3],
}

impl UserNamespace {
    pub fn create(uids: IdMap, gids: IdMap, reaper: &Reaper) -> io::Result<Self> {
        let founder = Founder::start(reaper)?;
        let folder = format!("/proc/{}", founder.pid());
        fs::write(format!("{folder}/uid_map"), uids.text())?;
        fs::write(format!("{folder}/gid_map"), gids.text())?;
        founder.go_on()?;
        let open = |name: &str| File::open(format!("{folder}/ns/{name}")).map(OwnedFd::from);
        let root = Owner {
            uid: uids.outside(0).ok_or(io::ErrorKind::InvalidInput)?,
            gid: gids.outside(0).ok_or(io::ErrorKind::InvalidInput)?,
        };
        Ok(Self {
            uids,
            gids,
            root,
            user: open("user")?,
            others: [open("net")?, open("ipc")?, open("uts")?],
        })
    }

    pub fn has(&self, uids: &IdMap, gids: &IdMap) -> bool {
        self.uids == *uids && self.gids == *gids
    }

    pub fn root(&self) -> Owner {
        self.root
    }

    pub fn user(&self) -> BorrowedFd<'_> {
        self.user.as_fd()
    }

    pub fn network(&self) -> BorrowedFd<'_> {
        self.others[0].as_fd()
    }

    pub fn others(&self) -> &[OwnedFd; 3] {
        &self.others
    }

    pub fn uid(&self, id: u32) -> Result<u32, Unmapped> {
        self.uids.outside(id).ok_or(Unmapped { what: "user", id })
    }

    pub fn gid(&self, id: u32) -> Result<u32, Unmapped> {
        self.gids.outside(id).ok_or(Unmapped { what: "group", id })
    }

    /// Shows the files of a mount that is attached nowhere yet with the ids of the pod: what belongs to 0
    /// on disk belongs to its root.
    pub fn map_mount(&self, tree: BorrowedFd<'_>) -> io::Result<()> {
        let attributes = MountAttributes {
            set: libc::MOUNT_ATTR_IDMAP,
            user_namespace: u64::from(self.user.as_raw_fd().unsigned_abs()),
            ..Default::default()
        };
        sys::set_mount_attributes(tree, attributes, false)
    }

    /// Does something in the pod's network, IPC and host name namespaces, as the guest's root.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            for namespace in &self.others {
                sys::join_namespace(namespace.as_fd())?;
            }
            Ok(work())
        })
    }

    /// Does something in the same namespaces as the pod's root, without capabilities.
    pub fn within_as_root<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.within(|| {
            sys::become_user(self.root.uid, self.root.gid)?;
            Ok(work())
        })?
    }
}

/// A thread that has changed what it is never has to find its way back.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| io::Error::other("a thread has panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(container_id: u32, host_id: u32, length: u32) -> proto::IdMapping {
        proto::IdMapping {
            container_id,
            host_id,
            length,
        }
    }

    #[test]
    fn ids_are_mapped_by_extent() {
        let map = IdMap::parse(&[mapping(0, 65536, 1000), mapping(2000, 10, 5)]).unwrap();
        let found: Vec<_> = [0, 999, 1000, 2000, 2004, 2005].map(|id| map.outside(id)).into();
        assert_eq!(found, [Some(65536), Some(66535), None, Some(10), Some(14), None]);
        assert_eq!(map.text(), "0 65536 1000\n2000 10 5\n");
    }

    #[test]
    fn mappings_that_are_none_are_refused() {
        let error = |mappings: &[proto::IdMapping]| IdMap::parse(mappings).unwrap_err();
        assert_eq!(error(&[]), "must have 1 to 340 entries");
        assert_eq!(error(&[mapping(1, 1000, 10)]), "does not map id 0");
        let beyond = "has an entry that is empty or goes beyond the last id";
        assert_eq!(error(&[mapping(0, 1000, 0)]), beyond);
        assert_eq!(error(&[mapping(0, u32::MAX, 2)]), beyond);
        let overlap = "has entries that overlap";
        assert_eq!(error(&[mapping(0, 1000, 10), mapping(5, 9000, 10)]), overlap);
        assert_eq!(error(&[mapping(0, 1000, 10), mapping(50, 1009, 10)]), overlap);
    }
}
