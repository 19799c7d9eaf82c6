//! The jail's file system: a small read-only root with nothing but what is mounted into it here.
//!
//! Every mount is made detached, gets its flags, and is then attached, so none is ever visible with
//! more rights than it should have.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::sys;

const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
const READ_ONLY: u64 = PLAIN | libc::MOUNT_ATTR_RDONLY;
/// Programs and libraries: QEMU is executed from here, and mapping a library also takes exec.
const PROGRAMS: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Where the new root is attached until it becomes the root. Any folder does that holds no source.
const STAGE: &str = "/proc";

/// A mount waiting to be attached at a path of the jail.
struct Part {
    mount: OwnedFd,
    target: PathBuf,
    folder: bool,
}

/// Collects the parts while the host's files are still there, then replaces the root.
#[derive(Default)]
pub struct Jail {
    parts: Vec<Part>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// From now on no mount or unmount here or on the host is seen on the other side.
pub fn detach_propagation() -> Result<()> {
    // SAFETY: the kernel reads only the target, a terminated string.
    sys::check(unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    })
    .during("detach mounts")?;
    Ok(())
}

impl Jail {
    /// The programs and libraries of the host, which QEMU is part of.
    pub fn add_programs(&mut self) -> Result<()> {
        self.add("/usr".as_ref(), "/usr".into(), PROGRAMS)?;
        for name in ["/bin", "/lib", "/lib64"] {
            let path = Path::new(name);
            match fs::symlink_metadata(path) {
                Ok(found) if found.is_symlink() => {
                    let target = fs::read_link(path).at("read link", path)?;
                    self.links.push((target, path.into()));
                }
                Ok(_) => self.add(path, path.into(), PROGRAMS)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("look at", path),
            }
        }
        let cache = Path::new("/etc/ld.so.cache");
        if cache.exists() {
            self.add(cache, cache.into(), READ_ONLY)?;
        }
        Ok(())
    }

    pub fn add_read_only(&mut self, source: &Path, target: &str) -> Result<()> {
        self.add(source, target.into(), READ_ONLY)
    }

    /// One more place for programs or firmware, e.g. a QEMU outside /usr.
    pub fn add_extra(&mut self, source: &Path) -> Result<()> {
        self.add(source, source.into(), PROGRAMS)
    }

    pub fn add_writable(&mut self, source: &Path, target: impl Into<PathBuf>) -> Result<()> {
        self.add(source, target.into(), PLAIN)
    }

    /// The few devices QEMU opens, on a file system where no further one can be made.
    pub fn add_devices(&mut self, kvm_owner: Option<(u32, u32)>) -> Result<()> {
        let options = [(c"size", c"16k"), (c"nr_inodes", c"8"), (c"mode", c"0755")];
        let mount = sys::new_filesystem(c"tmpfs", &options, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)
            .at("create", "/dev")?;
        for (name, major, minor) in [(c"null", 1, 3), (c"zero", 1, 5), (c"urandom", 1, 9)] {
            make_device(&mount, name, 0o666, libc::makedev(major, minor)).at("create device", show(name))?;
        }
        if let Some((uid, gid)) = kvm_owner {
            use std::os::unix::fs::MetadataExt;
            // Its minor number is fixed, but the host's node also proves that the device is there.
            let number = fs::metadata("/dev/kvm").at("find device", "/dev/kvm")?.rdev();
            make_device(&mount, c"kvm", 0o600, number).at("create device", "/dev/kvm")?;
            // SAFETY: the name is a terminated string.
            sys::check(unsafe {
                libc::fchownat(mount.as_raw_fd(), c"kvm".as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW)
            })
            .at("give to user", "/dev/kvm")?;
        }
        sys::set_mount(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false).at("protect", "/dev")?;
        self.parts.push(Part {
            mount,
            target: "/dev".into(),
            folder: true,
        });
        Ok(())
    }

    /// Own processes only, none of the kernel's settings.
    pub fn add_proc(&mut self) -> Result<()> {
        let options = [(c"hidepid", c"invisible"), (c"subset", c"pid")];
        let mount = sys::new_filesystem(c"proc", &options, READ_ONLY).at("create", "/proc")?;
        self.parts.push(Part {
            mount,
            target: "/proc".into(),
            folder: true,
        });
        Ok(())
    }

    fn add(&mut self, source: &Path, target: PathBuf, attributes: u64) -> Result<()> {
        let folder = fs::metadata(source).at("find", source)?.is_dir();
        let mount = sys::open_tree(source, false).at("open", source)?;
        sys::set_mount(mount.as_fd(), attributes, libc::MS_PRIVATE, false).at("protect", source)?;
        self.parts.push(Part { mount, target, folder });
        Ok(())
    }

    /// Makes the collected parts the root, and everything else unreachable.
    pub fn enter(self) -> Result<()> {
        let options = [(c"size", c"64k"), (c"nr_inodes", c"64"), (c"mode", c"0755")];
        let root = sys::new_filesystem(c"tmpfs", &options, PLAIN).at("create", "/")?;
        sys::move_mount(root.as_fd(), libc::AT_FDCWD, STAGE.as_ref()).at("attach", "/")?;
        // SAFETY: a plain call with a descriptor that is open.
        sys::check(unsafe { libc::fchdir(root.as_raw_fd()) }).at("enter", "/")?;
        for part in &self.parts {
            let target = inside(&part.target);
            make_place(target, part.folder).at("make place for", &part.target)?;
            sys::move_mount(part.mount.as_fd(), libc::AT_FDCWD, target).at("attach", &part.target)?;
        }
        for (target, link) in &self.links {
            symlink(target, inside(link)).at("link", link)?;
        }
        pivot()?;
        sys::set_mount(root.as_fd(), READ_ONLY, libc::MS_PRIVATE, false).at("protect", "/")
    }
}

/// A path of the jail, relative to its root while that is only the current folder.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Something to mount on. It exists already when it lies inside a part attached before (/disks/scratch.img).
fn make_place(target: &Path, folder: bool) -> std::io::Result<()> {
    if fs::symlink_metadata(target).is_ok() {
        return Ok(());
    }
    let mut folders = fs::DirBuilder::new();
    folders.recursive(true).mode(0o755);
    if folder {
        return folders.create(target);
    }
    if let Some(parent) = target.parent() {
        folders.create(parent)?;
    }
    fs::File::create_new(target).map(drop)
}

/// Both roots on one spot: the old one is on top afterwards and is unmounted from there, so that no
/// folder for it is needed.
fn pivot() -> Result<()> {
    let here = c".".as_ptr();
    // SAFETY: the string is terminated and static.
    sys::check_long(unsafe { libc::syscall(libc::SYS_pivot_root, here, here) }).during("change root")?;
    // SAFETY: as above.
    sys::check(unsafe { libc::umount2(here, libc::MNT_DETACH) }).during("leave the host's root")?;
    std::env::set_current_dir("/").at("enter", "/")
}

fn make_device(
    directory: &OwnedFd,
    name: &std::ffi::CStr,
    mode: libc::mode_t,
    number: libc::dev_t,
) -> std::io::Result<()> {
    // SAFETY: `name` is a terminated string.
    sys::check(unsafe { libc::mknodat(directory.as_raw_fd(), name.as_ptr(), libc::S_IFCHR | mode, number) })?;
    Ok(())
}

fn show(name: &std::ffi::CStr) -> PathBuf {
    Path::new("/dev").join(CString::from(name).to_string_lossy().as_ref())
}
