use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kelyfos_netlink::Netlink;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::network::{links, set_up};
use crate::tap;

/// The calling thread's.
const OWN: &str = "/proc/thread-self/ns/net";

#[derive(Debug, Deserialize)]
pub struct Make {
    /// Its name: a file that is made, in the folder of iproute2.
    namespace: PathBuf,
    tap: String,
    /// Below /proc/sys, and their values. A host without IPv6 lacks those about it.
    settings: Vec<(String, String)>,
}

/// Changes a setting of the calling thread's namespace, a path below /proc/sys. What the host's kernel does not have, as one
/// without IPv6, needs no change.
pub fn set(name: &str, value: &str) -> Result<()> {
    match fs::write(Path::new("/proc/sys").join(name), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(Error::during(format!("set {name}"))),
    }
}

/// Makes a network namespace with loopback and a tap, both up.
pub fn make(order: &Make) -> Result<()> {
    let path = &order.namespace;
    share_folder(path)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)
        .map_err(Error::during(format!("make {}", path.display())))?;
    // SAFETY: no descriptors are unshared, only what this thread's sockets will be in.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| Error::during("make a network namespace")(error.into()))?;
    mount_bind(OWN, path)
        .map_err(|error| Error::during(format!("name a network namespace {}", path.display()))(error.into()))?;
    tap::make(&order.tap)?;
    for (name, value) in &order.settings {
        set(name, value)?;
    }
    let mut netlink = Netlink::open().map_err(Error::during("open rtnetlink"))?;
    for link in links(&mut netlink)? {
        if link.name == "lo" || link.name == order.tap {
            set_up(&link, &mut netlink)?;
        }
    }
    Ok(())
}

/// iproute2 keeps its folder a shared mount, so that names reach other mount namespaces, and locks it while it does.
fn share_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let step = |error: io::Error| Error::during(format!("share {}", folder.display()))(error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(step)?;
    let lock = File::open(folder).map_err(step)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| step(error.into()))?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(folder, shared) {
        // Not a mount point yet.
        Err(rustix::io::Errno::INVAL) => {
            mount_bind_recursive(folder, folder).map_err(|error| step(error.into()))?;
            mount_change(folder, shared).map_err(|error| step(error.into()))
        }
        done => done.map_err(|error| step(error.into())),
    }
}

/// Takes the calling thread into a network namespace, for good; the one that it was in.
pub fn enter(path: &Path) -> Result<File> {
    let outside = File::open(OWN).map_err(Error::during(format!("open {OWN}")))?;
    let file = File::open(path).map_err(Error::during(format!("open {}", path.display())))?;
    switch(&file).map_err(Error::during(format!("enter {}", path.display())))?;
    Ok(outside)
}

/// Takes the calling thread into a network namespace.
pub fn switch(to: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(to.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Removes the name of a network namespace. One that leads nowhere is removed as well.
pub fn forget(path: &Path) -> Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        // Not a mount point, and not there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(Error::during(format!("unmount {}", path.display()))(error.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::during(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
