//! What is mounted into a container without coming from the host's share: other images, and the
//! folders that an image declares as its volumes.

use std::{
    ffi::{CString, NulError},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::chown,
    },
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{copy_tree::copy_tree, launcher::plain, sys, user_namespace::Owner};
use crate::{
    disks::DiskError,
    proto,
    rootfs::{RootFs, RootFsError},
};

#[derive(Debug, Error)]
pub enum VolumeError {
    // The word is for the kubelet, which looks for it.
    #[error("ImageVolumeMountFailed: {sub_path:?} in the image: {}", plain(.source))]
    SubPath { sub_path: String, source: io::Error },
    #[error("volume {path:?} of the image: {}", plain(.source))]
    Copy { path: String, source: io::Error },
    #[error("volume {path:?} of the image is a file there")]
    NotFolder { path: String },
    #[error(transparent)]
    RootFs(#[from] RootFsError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("a path has a null byte in it")]
    Null(#[from] NulError),
}

/// The root of an image, or what is at `sub_path` in it. No link and no `..` leads out of the image.
pub fn image(file_systems: &RootFs, container_id: &str, mount: &proto::Mount) -> Result<File, VolumeError> {
    let folder = file_systems.add_image(container_id, &mount.source)?;
    let failed = |source| VolumeError::SubPath {
        sub_path: mount.sub_path.clone(),
        source,
    };
    let root = File::open(folder).map_err(failed)?;
    // "." also keeps an empty path from being none.
    let path = CString::new(format!("./{}", mount.sub_path))?;
    inside(&root, &path).map_err(failed)
}

/// A new writable folder with what the image has at `destination`.
/// What is not there in the image is made for `owner`.
pub fn own(
    file_systems: &RootFs,
    container_id: &str,
    number: usize,
    root: &Path,
    destination: &str,
    owner: Owner,
) -> Result<File, VolumeError> {
    let failed = |source| VolumeError::Copy {
        path: destination.to_owned(),
        source,
    };
    let folder = file_systems.add_folder(container_id, &number.to_string())?;
    let root = File::open(root).map_err(failed)?;
    match inside(&root, &CString::new(destination)?) {
        Ok(found) if found.metadata().map_err(failed)?.is_dir() => {
            copy_tree(&path_of(&found).map_err(failed)?, &folder).map_err(failed)?;
        }
        Ok(_) => {
            return Err(VolumeError::NotFolder {
                path: destination.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            chown(&folder, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    File::open(folder).map_err(failed)
}

fn inside(root: &File, path: &CString) -> io::Result<File> {
    let resolve = sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS;
    sys::openat2(root.as_fd(), path, libc::O_PATH, resolve).map(File::from)
}

fn path_of(file: &File) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
