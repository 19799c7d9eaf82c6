//! The volume share: one 9p file system for all volumes of the pod.

use std::{io, path::Path};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change};

use crate::{mounts, paths};

/// msize: 256 KiB a message, past which nothing is gained. mmap: only mapped files are cached, so
/// that what the host changes is seen at once. Access is checked and files are made as the user at work
/// (access=client, the default of this version).
const OPTIONS: &str = "trans=virtio,version=9p2000.L,cache=mmap,msize=262144";

/// Which tag is mounted, if any.
#[derive(Debug, Default)]
pub struct Share {
    tag: Option<String>,
}

impl Share {
    /// Mounts the share of that tag instead of what was there; an empty tag mounts none.
    pub fn mount(&mut self, tag: &str) -> io::Result<()> {
        if self.tag.as_deref().unwrap_or_default() == tag {
            return Ok(());
        }
        mounts::unmount(Path::new(paths::SHARE), UnmountFlags::DETACH)?;
        self.tag = None;
        if !tag.is_empty() {
            mounts::mount(tag, Path::new(paths::SHARE), "9p", MountFlags::NODEV, OPTIONS)?;
            // Containers may be given volumes whose later mounts they shall see.
            mount_change(paths::SHARE, MountPropagationFlags::SHARED)?;
            self.tag = Some(tag.to_owned());
        }
        Ok(())
    }
}
