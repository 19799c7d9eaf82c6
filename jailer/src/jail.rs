//! Which parts a pod's jail has.

use std::path::Path;

use crate::cli::RunRequest;
use crate::descriptors::give;
use crate::error::Result;
use crate::mounts::Jail;

pub fn build(request: &RunRequest) -> Result<Jail> {
    let mut jail = Jail::default();
    jail.add_programs()?;
    for path in &request.read_only {
        jail.add_extra(path)?;
    }
    if let Some(folder) = &request.run {
        give(folder, request.uid, request.gid, 0o700)?;
        jail.add_writable(folder, "/run")?;
    }
    if let Some(folder) = &request.share {
        // Volumes are mounted below it by `bind`, with flags of their own. The folders round them are the host's
        // alone, so that a symbolic link in their place can never lead it astray when it mounts the next one.
        jail.add_read_only(folder, "/share")?;
    }
    if let Some(folder) = &request.disks {
        // Read-only as a whole: its images are hard links that other pods share.
        jail.add_read_only(folder, "/disks")?;
    }
    if let Some(file) = &request.scratch {
        give(file, request.uid, request.gid, 0o600)?;
        let name = file.file_name().unwrap_or_default();
        jail.add_writable(file, Path::new("/disks").join(name))?;
    }
    if let Some(folder) = &request.guest {
        jail.add_read_only(folder, "/guest")?;
    }
    jail.add_devices(request.kvm.then_some((request.uid, request.gid)))?;
    jail.add_proc()?;
    Ok(jail)
}
