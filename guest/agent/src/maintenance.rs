//! What the host asks for around a pod's life: giving memory back, and a clean end.

use std::{fs, io};

use tonic::Status;

use crate::rootfs::RootFs;

/// Writes dirty pages out; with `drop_caches` also gives clean page cache back, and packs what stays
/// so that the balloon can report whole free blocks to the host.
pub fn trim(drop_caches: bool) -> Result<(), Status> {
    rustix::fs::sync();
    if drop_caches {
        write("/proc/sys/vm/drop_caches", "3")?;
        write("/proc/sys/vm/compact_memory", "1")?;
    }
    Ok(())
}

pub fn shut_down(rootfs: &RootFs) -> Result<(), Status> {
    rustix::fs::sync();
    rootfs.shut_down()?;
    rustix::fs::sync();
    Ok(())
}

fn write(path: &str, value: &str) -> Result<(), Status> {
    fs::write(path, value).map_err(|error: io::Error| Status::internal(format!("{path}: {error}")))
}
