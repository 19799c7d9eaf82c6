//! Mounts a volume into the jail of a running QEMU, in its mount namespace and no other.
//!
//! A mount on the host would pin the folders of the volume: nothing that is mounted below one could be
//! removed there (rmdir(2), EBUSY). What another namespace has mounted does not count, and goes by itself when its
//! mount point is removed or the jail ends. The flags are set on the detached mount before anybody can see it.

use std::os::fd::AsFd;

use crate::cli::{BindRequest, Propagation, ReadOnly};
use crate::error::{Context, Result};
use crate::{namespaces, sys};

const HARMLESS: u64 = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;

pub fn bind(request: &BindRequest) -> Result<()> {
    let mount = sys::open_tree(&request.source, true).at("open volume", &request.source)?;
    let propagation = match request.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
    };
    let protect = |attributes, propagation, recursive| {
        sys::set_mount(mount.as_fd(), attributes, propagation, recursive).at("protect volume", &request.source)
    };
    protect(HARMLESS, propagation, true)?;
    match request.read_only {
        ReadOnly::No => {}
        ReadOnly::Top => protect(libc::MOUNT_ATTR_RDONLY, 0, false)?,
        ReadOnly::All => protect(libc::MOUNT_ATTR_RDONLY, 0, true)?,
    }
    if let Some(owners) = &request.owners {
        owners.apply(&mount, request.jail)?;
    }
    namespaces::join_mounts(request.jail)?;
    sys::move_mount(mount.as_fd(), libc::AT_FDCWD, &request.target).at("mount volume", &request.target)
}
