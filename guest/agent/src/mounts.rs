//! Mounting with errors that say what was mounted where.

use std::{ffi::CString, fs, io, path::Path};

use rustix::mount::{MountFlags, UnmountFlags};

/// Makes the mount point and mounts on it.
pub fn mount(source: &str, target: &Path, kind: &str, flags: MountFlags, data: &str) -> io::Result<()> {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("mount {kind} at {}: {error}", target.display()));
    fs::create_dir_all(target).map_err(explain)?;
    let data = CString::new(data)?;
    rustix::mount::mount(source, target, kind, flags, data.as_c_str()).map_err(|error| explain(error.into()))
}

/// Not being mounted, or not being there, is fine.
pub fn unmount(target: &Path, flags: UnmountFlags) -> io::Result<()> {
    match rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => {
            let error = io::Error::from(error);
            Err(io::Error::new(
                error.kind(),
                format!("unmount {}: {error}", target.display()),
            ))
        }
    }
}
