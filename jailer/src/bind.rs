//! Mounts a volume into a pod's share. mount(8) first binds and then remounts with `nodev`; the bind
//! has by then propagated into the jail without it, and the second step does not propagate. So the
//! flags are set on the detached mount before anybody can see it.

use std::os::fd::AsFd;

use crate::cli::{BindRequest, Propagation};
use crate::error::{Context, Result};
use crate::sys;

pub fn bind(request: &BindRequest) -> Result<()> {
    let mount = sys::open_tree(&request.source, true).at("open volume", &request.source)?;
    let mut attributes = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    if request.read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    let propagation = match request.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
    };
    sys::set_mount(mount.as_fd(), attributes, propagation, true).at("protect volume", &request.source)?;
    sys::move_mount(mount.as_fd(), libc::AT_FDCWD, &request.target).at("mount volume", &request.target)
}
