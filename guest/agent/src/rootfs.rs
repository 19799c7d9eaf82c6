//! Root file systems of containers: an image (erofs, read-only, shared by the containers that run
//! it) under a writable layer of their own on the scratch disk.

use std::{
    collections::HashMap,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree};
use thiserror::Error;
use tonic::Status;

use crate::{
    container::user_namespace::UserNamespace,
    disks::{self, DiskError},
    log, mounts, paths,
    proto::FileSystemFigures,
};

const SCRATCH_SERIAL: &str = "scratch";
/// `_IO(0x12, 97)`: forget what is cached of a block device.
const BLKFLSBUF: libc::Ioctl = 0x1261;

#[derive(Debug, Error)]
pub enum RootFsError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
    #[error("root file system of container {0} is already mounted")]
    Exists(String),
    #[error("root file system of container {0} is not mounted")]
    NotMounted(String),
}

impl From<RootFsError> for Status {
    fn from(error: RootFsError) -> Self {
        match error {
            RootFsError::Disk(DiskError::NotFound(_)) => Status::not_found(error.to_string()),
            RootFsError::Disk(DiskError::Serial(_)) => Status::invalid_argument(error.to_string()),
            RootFsError::Exists(_) => Status::already_exists(error.to_string()),
            _ => Status::internal(error.to_string()),
        }
    }
}

/// What the writable layer of one container takes on the scratch disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerUsage {
    pub bytes: u64,
    pub inodes: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Image disks of each container that is mounted; that of its root file system is the first.
    images: HashMap<String, Vec<String>>,
    scratch_is_mounted: bool,
}

/// All root file systems of the guest. Cheap to clone. Every method blocks on the kernel: call them
/// from `spawn_blocking`.
#[derive(Clone, Debug, Default)]
pub struct RootFs {
    state: Arc<Mutex<State>>,
}

impl RootFs {
    /// Mounts the image of `image_disk` under a fresh writable layer and returns the merged folder.
    /// It is writable: whoever wants it read-only makes it so after making the mount points.
    /// With a user namespace its files have the owners they have in the image, as the pod sees them.
    pub fn mount(
        &self,
        container_id: &str,
        image_disk: &str,
        user_namespace: Option<&UserNamespace>,
    ) -> Result<PathBuf, RootFsError> {
        let mut state = self.state();
        if state.images.contains_key(container_id) {
            return Err(RootFsError::Exists(container_id.to_owned()));
        }
        state.mount_scratch()?;
        let image = state.mount_image(image_disk)?;
        let result = mount_overlay(container_id, &image, user_namespace);
        match result {
            Ok(_) => {
                state
                    .images
                    .insert(container_id.to_owned(), vec![image_disk.to_owned()]);
            }
            Err(_) => state.release_image(image_disk)?,
        }
        result
    }

    /// Unmounts, deletes the writable layer, and unmounts the image after its last container.
    /// Unknown ids are fine.
    pub fn unmount(&self, container_id: &str) -> Result<(), RootFsError> {
        let mut state = self.state();
        if !state.images.contains_key(container_id) {
            return Ok(());
        }
        remove_overlay(container_id)?;
        let disks = state.images.remove(container_id).unwrap_or_default();
        disks.iter().try_for_each(|disk| state.release_image(disk))
    }

    /// Mounts one more image for a container that is mounted, until it is unmounted. The folder with
    /// its files.
    pub fn add_image(&self, container_id: &str, disk: &str) -> Result<PathBuf, RootFsError> {
        let mut state = self.state();
        let folder = state.mount_image(disk)?;
        match state.images.get_mut(container_id) {
            Some(disks) if disks.iter().any(|it| it == disk) => {}
            Some(disks) => disks.push(disk.to_owned()),
            None => {
                state.release_image(disk)?;
                return Err(RootFsError::NotMounted(container_id.to_owned()));
            }
        }
        Ok(folder)
    }

    /// A new folder on the scratch disk that goes with the container's writable layer.
    pub fn add_folder(container_id: &str, name: &str) -> Result<PathBuf, RootFsError> {
        let folder = layer(container_id).join("volumes").join(name);
        step(
            &format!("volume {name} of container {container_id}"),
            fs::create_dir_all(&folder),
        )?;
        Ok(folder)
    }

    pub fn usage(&self, container_id: &str) -> LayerUsage {
        if !self.state().images.contains_key(container_id) {
            return LayerUsage::default();
        }
        usage_of(&layer(container_id).join("upper"))
    }

    /// What the scratch disk can hold; None before the first container.
    pub fn scratch_figures(&self) -> Option<FileSystemFigures> {
        if !self.state().scratch_is_mounted {
            return None;
        }
        let found = rustix::fs::statvfs(paths::SCRATCH)
            .inspect_err(|error| log!("cannot look at the scratch disk: {error}"))
            .ok()?;
        Some(FileSystemFigures {
            bytes: found.f_blocks * found.f_frsize,
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        })
    }

    /// Brings the scratch disk into a consistent state; nothing can be mounted on it afterwards.
    pub fn shut_down(&self) -> Result<(), RootFsError> {
        let mut state = self.state();
        for id in state.images.drain().map(|(id, _)| id) {
            step("unmount", mounts::unmount(&merged(&id), UnmountFlags::DETACH))?;
        }
        if state.scratch_is_mounted {
            // What is still open keeps it busy; then at least nothing more is written.
            let target = Path::new(paths::SCRATCH);
            step(
                "unmount scratch",
                mounts::unmount(target, UnmountFlags::empty()).or_else(|_| remount_readonly(target)),
            )?;
            state.scratch_is_mounted = false;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mount_scratch(&mut self) -> Result<(), RootFsError> {
        if self.scratch_is_mounted {
            return Ok(());
        }
        let device = disks::find(SCRATCH_SERIAL)?;
        let flags = MountFlags::NOATIME | MountFlags::NODEV;
        // NODEV is no loss: overlay decides by its own flags.
        step(
            "scratch disk",
            mounts::mount(&device.to_string_lossy(), Path::new(paths::SCRATCH), "ext4", flags, ""),
        )?;
        self.scratch_is_mounted = true;
        Ok(())
    }

    /// The disk is a slot whose content the host exchanges while nothing of it is mounted.
    fn mount_image(&self, disk: &str) -> Result<PathBuf, RootFsError> {
        let device = disks::find(disk)?;
        let target = image_folder(disk);
        if !self.uses(disk) {
            let name = format!("image disk {disk}");
            step(&name, forget_cache(&device))?;
            step(
                &name,
                mounts::mount(&device.to_string_lossy(), &target, "erofs", MountFlags::RDONLY, ""),
            )?;
        }
        Ok(target)
    }

    fn release_image(&self, disk: &str) -> Result<(), RootFsError> {
        if self.uses(disk) {
            return Ok(());
        }
        let target = image_folder(disk);
        step(
            &format!("image disk {disk}"),
            mounts::unmount(&target, UnmountFlags::empty()).and_then(|()| remove_folder(&target)),
        )?;
        // The mounts of a namespace that has ended go a moment after its last process.
        step(&format!("image disk {disk}"), disks::until_unused(&disks::find(disk)?))
    }

    fn uses(&self, disk: &str) -> bool {
        self.images.values().flatten().any(|it| it == disk)
    }
}

fn image_folder(disk: &str) -> PathBuf {
    Path::new(paths::IMAGES).join(disk)
}

fn merged(container_id: &str) -> PathBuf {
    Path::new(paths::ROOTFS).join(container_id)
}

fn layer(container_id: &str) -> PathBuf {
    Path::new(paths::SCRATCH).join("layers").join(container_id)
}

fn mount_overlay(
    container_id: &str,
    image: &Path,
    user_namespace: Option<&UserNamespace>,
) -> Result<PathBuf, RootFsError> {
    let layer = layer(container_id);
    let merged = merged(container_id);
    let name = format!("root file system of container {container_id}");
    // Left over only if an earlier removal failed half-way.
    step(&name, remove_tree(&layer))?;
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for folder in [&upper, &work] {
        step(&name, fs::create_dir_all(folder))?;
    }
    let mapped = user_namespace.map(|it| MappedFolder::mount(it, image, container_id));
    let mapped = step(&name, mapped.transpose())?;
    let image = mapped.as_ref().map_or(image, |it| &it.path);
    // The root folder of the container is the upper one's: it takes over mode and owner of the image's.
    step(&name, copy_attributes(image, &upper))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,metacopy=off,xino=off",
        image.display(),
        upper.display(),
        work.display()
    );
    let result = step(
        &name,
        mounts::mount("overlay", &merged, "overlay", MountFlags::empty(), &options),
    );
    if result.is_err() {
        step(&name, remove_tree(&layer))?;
    }
    result.map(|()| merged)
}

/// A folder with the owners that a user namespace makes of those on disk. Overlayfs takes its layers by path and
/// keeps what was mounted there, so it is attached only for as long as this lives. Only the image is one: the
/// writable layer is gone with the container, whatever numbers it has for its owners.
struct MappedFolder {
    path: PathBuf,
}

impl MappedFolder {
    fn mount(namespace: &UserNamespace, folder: &Path, name: &str) -> io::Result<Self> {
        let tree = open_tree(
            CWD,
            folder,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?;
        namespace.map_mount(tree.as_fd())?;
        let path = Path::new(paths::MAPPED).join(name);
        fs::create_dir_all(&path)?;
        let mapped = Self { path };
        move_mount(&tree, c"", CWD, &mapped.path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(mapped)
    }
}

impl Drop for MappedFolder {
    fn drop(&mut self) {
        let removed = mounts::unmount(&self.path, UnmountFlags::DETACH).and_then(|()| remove_folder(&self.path));
        if let Err(error) = removed {
            log!("{}: {error}", self.path.display());
        }
    }
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let attributes = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(attributes.uid()), Some(attributes.gid()))?;
    fs::set_permissions(to, attributes.permissions())
}

fn remove_overlay(container_id: &str) -> Result<(), RootFsError> {
    let name = format!("root file system of container {container_id}");
    let merged = merged(container_id);
    step(
        &name,
        mounts::unmount(&merged, UnmountFlags::empty()).and_then(|()| remove_folder(&merged)),
    )?;
    if let Err(error) = remove_tree(&layer(container_id)) {
        // e.g. files that the container has made immutable; the whole disk goes with the pod.
        log!("writable layer of container {container_id} stays behind: {error}");
    }
    Ok(())
}

fn forget_cache(device: &Path) -> io::Result<()> {
    let file = fs::File::open(device)?;
    // SAFETY: takes no argument and touches no memory of this process.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), BLKFLSBUF, 0) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn remount_readonly(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")?)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    fs::remove_dir(path).or_else(ignore_absent)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path).or_else(ignore_absent)
}

fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// Blocks in use and number of files below a folder, without following links.
fn usage_of(folder: &Path) -> LayerUsage {
    let mut usage = LayerUsage::default();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        // A running container may delete what is being counted.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(attributes) = entry.metadata() else { continue };
            usage.inodes += 1;
            usage.bytes += attributes.blocks() * 512;
            if attributes.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    usage
}

fn step<T>(name: &str, result: io::Result<T>) -> Result<T, RootFsError> {
    result.map_err(|source| RootFsError::Step {
        step: name.to_owned(),
        source,
    })
}
