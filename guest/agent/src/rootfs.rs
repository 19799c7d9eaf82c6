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

/// What is mounted for one container.
#[derive(Debug)]
struct Mounted {
    /// Of the folders of its root file system and of its writable layer.
    name: String,
    /// Image disks; that of its root file system is the first.
    disks: Vec<String>,
}

#[derive(Debug, Default)]
struct State {
    containers: HashMap<String, Mounted>,
    /// Image disks that stay mounted without a container until one takes them over, and the root file system that is
    /// mounted ahead for it.
    kept: HashMap<String, Option<String>>,
    /// How many were mounted ahead.
    ahead: u64,
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
    /// `keep`: the image stays mounted after `unmount`, with the root file system of the next container, until a
    /// container that does not say so has used it.
    pub fn mount(
        &self,
        container_id: &str,
        image_disk: &str,
        keep: bool,
        user_namespace: Option<&UserNamespace>,
    ) -> Result<PathBuf, RootFsError> {
        let mut state = self.state();
        if state.containers.contains_key(container_id) {
            return Err(RootFsError::Exists(container_id.to_owned()));
        }
        state.mount_scratch()?;
        let image = state.mount_image(image_disk)?;
        let ahead = state.kept.remove(image_disk).flatten();
        let (name, result) = match (ahead, user_namespace) {
            (Some(name), None) => (name, Ok(())),
            (ahead, _) => {
                ahead.map_or(Ok(()), |unfit| remove_overlay(&unfit))?;
                let result = mount_overlay(container_id, &image, user_namespace);
                (container_id.to_owned(), result)
            }
        };
        if let Err(error) = result {
            state.release_image(image_disk)?;
            return Err(error);
        }
        if keep {
            state.kept.insert(image_disk.to_owned(), None);
        }
        let root = merged(&name);
        let disks = vec![image_disk.to_owned()];
        state
            .containers
            .insert(container_id.to_owned(), Mounted { name, disks });
        Ok(root)
    }

    /// Ends that an image stays mounted for the next container.
    pub fn forget(&self, disk: &str) -> Result<(), RootFsError> {
        let mut state = self.state();
        let Some(ahead) = state.kept.get_mut(disk) else {
            return Ok(());
        };
        if let Some(name) = ahead {
            remove_overlay(name)?;
            *ahead = None;
        }
        state.kept.remove(disk);
        state.release_image(disk)
    }

    /// Unmounts, deletes the writable layer, and unmounts the image after its last container.
    /// Unknown ids are fine.
    pub fn unmount(&self, container_id: &str) -> Result<(), RootFsError> {
        let mut state = self.state();
        let Some(Mounted { name, .. }) = state.containers.get(container_id) else {
            return Ok(());
        };
        remove_overlay(name)?;
        let disks = state.containers.remove(container_id).map(|it| it.disks);
        let disks = disks.unwrap_or_default();
        disks.iter().try_for_each(|disk| state.release_image(disk))?;
        disks.first().map_or(Ok(()), |disk| state.mount_ahead(disk))
    }

    /// Mounts one more image for a container that is mounted, until it is unmounted. The folder with
    /// its files.
    pub fn add_image(&self, container_id: &str, disk: &str) -> Result<PathBuf, RootFsError> {
        let mut state = self.state();
        let folder = state.mount_image(disk)?;
        let Some(Mounted { disks, .. }) = state.containers.get_mut(container_id) else {
            state.release_image(disk)?;
            return Err(RootFsError::NotMounted(container_id.to_owned()));
        };
        if !disks.iter().any(|it| it == disk) {
            disks.push(disk.to_owned());
        }
        let unfit = state.kept.remove(disk).flatten();
        unfit.map_or(Ok(()), |name| remove_overlay(&name))?;
        Ok(folder)
    }

    /// A new folder on the scratch disk that goes with the container's writable layer.
    pub fn add_folder(&self, container_id: &str, name: &str) -> Result<PathBuf, RootFsError> {
        let not_mounted = || RootFsError::NotMounted(container_id.to_owned());
        let folder = self.layer_of(container_id).ok_or_else(not_mounted)?;
        let folder = folder.join("volumes").join(name);
        step(
            &format!("volume {name} of container {container_id}"),
            fs::create_dir_all(&folder),
        )?;
        Ok(folder)
    }

    pub fn usage(&self, container_id: &str) -> LayerUsage {
        let layer = self.layer_of(container_id);
        layer.map(|it| usage_of(&it.join("upper"))).unwrap_or_default()
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
        let State { containers, kept, .. } = &mut *state;
        let used = containers.drain().map(|(_, it)| it.name);
        for name in used.chain(kept.drain().filter_map(|(_, ahead)| ahead)) {
            step("unmount", mounts::unmount(&merged(&name), UnmountFlags::DETACH))?;
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

    fn layer_of(&self, container_id: &str) -> Option<PathBuf> {
        self.state().containers.get(container_id).map(|it| layer(&it.name))
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
        let target = image_folder(disk);
        if !self.uses(disk) {
            let device = disks::find(disk)?;
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
        let mut used = self.containers.values().flat_map(|it| &it.disks);
        self.kept.contains_key(disk) || used.any(|it| it == disk)
    }

    /// What the next container of a disk that is kept will find.
    fn mount_ahead(&mut self, disk: &str) -> Result<(), RootFsError> {
        let Some(ahead @ None) = self.kept.get_mut(disk) else {
            return Ok(());
        };
        self.ahead += 1;
        let name = format!("_ahead-{}", self.ahead);
        mount_overlay(&name, &image_folder(disk), None)?;
        *ahead = Some(name);
        Ok(())
    }
}

fn image_folder(disk: &str) -> PathBuf {
    Path::new(paths::IMAGES).join(disk)
}

/// `name`: a container's id, or one that no container can have.
fn merged(name: &str) -> PathBuf {
    Path::new(paths::ROOTFS).join(name)
}

fn layer(name: &str) -> PathBuf {
    Path::new(paths::SCRATCH).join("layers").join(name)
}

fn mount_overlay(root: &str, image: &Path, user_namespace: Option<&UserNamespace>) -> Result<(), RootFsError> {
    let layer = layer(root);
    let merged = merged(root);
    let name = format!("root file system {root}");
    // Left over only if an earlier removal failed half-way.
    step(&name, remove_tree(&layer))?;
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for folder in [&upper, &work] {
        step(&name, fs::create_dir_all(folder))?;
    }
    let mapped = user_namespace.map(|it| MappedFolder::mount(it, image, root));
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
    result
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

fn remove_overlay(root: &str) -> Result<(), RootFsError> {
    let name = format!("root file system {root}");
    let merged = merged(root);
    step(
        &name,
        mounts::unmount(&merged, UnmountFlags::empty()).and_then(|()| remove_folder(&merged)),
    )?;
    if let Err(error) = remove_tree(&layer(root)) {
        // e.g. files that the container has made immutable; the whole disk goes with the pod.
        log!("writable layer {root} stays behind: {error}");
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
