//! What PID 1 does before it serves: from the initramfs to a root that containers can pivot away from.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_move};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{log, modules, mounts::mount, paths};

/// For pooled machines to rehearse with. It stays, so that the pages with its code are used for nothing else.
const REHEARSAL: &str = "bin/rehearse";

const NEW_ROOT: &str = "/newroot";
const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The kernel's own bound of `RLIMIT_NOFILE` (`fs.nr_open`). The agent has some descriptors for each container and stream.
const MAX_FILES: u64 = 1 << 20;

pub fn run() -> io::Result<()> {
    mount("proc", Path::new("/proc"), "proc", QUIET, "")?;
    mount("sysfs", Path::new("/sys"), "sysfs", QUIET, "")?;
    mount(
        "devtmpfs",
        Path::new("/dev"),
        "devtmpfs",
        MountFlags::NOSUID,
        "mode=0755",
    )?;
    modules::load_all()?;
    switch_root()?;
    mount_rest()?;
    enable_controllers();
    raise_limits()
}

/// The kernel gives PID 1 limits of 4096 files and of as many processes as memory seems to allow, and all others inherit them.
/// How many a pod may have is a matter of its cgroups.
fn raise_limits() -> io::Result<()> {
    let files = Rlimit {
        current: Some(MAX_FILES),
        maximum: Some(MAX_FILES),
    };
    setrlimit(Resource::Nofile, files)?;
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    Ok(setrlimit(Resource::Nproc, unlimited)?)
}

/// `pivot_root` refuses to leave the initramfs, so everything moves onto a tmpfs first. The files of
/// the initramfs are deleted: they are memory.
fn switch_root() -> io::Result<()> {
    mount(
        "root",
        Path::new(NEW_ROOT),
        "tmpfs",
        MountFlags::NOSUID,
        "mode=0755,size=16m",
    )?;
    for folder in ["dev", "proc", "sys"] {
        let target = Path::new(NEW_ROOT).join(folder);
        fs::create_dir(&target)?;
        mount_move(Path::new("/").join(folder), target)?;
    }
    fs::create_dir(Path::new(NEW_ROOT).join("bin"))?;
    fs::copy(Path::new("/").join(REHEARSAL), Path::new(NEW_ROOT).join(REHEARSAL))?;
    for folder in ["/bin", "/lib"] {
        fs::remove_dir_all(folder)?;
    }
    fs::remove_file("/init")?;
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

fn mount_rest() -> io::Result<()> {
    let nosuid_nodev = MountFlags::NOSUID | MountFlags::NODEV;
    mount("run", Path::new("/run"), "tmpfs", nosuid_nodev, "mode=0755,size=25%")?;
    mount("tmp", Path::new("/tmp"), "tmpfs", nosuid_nodev, "mode=1777,size=25%")?;
    mount(
        "devpts",
        Path::new("/dev/pts"),
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "mode=0620,ptmxmode=0666",
    )?;
    mount("mqueue", Path::new("/dev/mqueue"), "mqueue", QUIET, "")?;
    mount(
        "cgroup2",
        Path::new(paths::CGROUP),
        "cgroup2",
        QUIET,
        "nsdelegate,memory_recursiveprot",
    )?;
    fs::remove_file("/dev/ptmx").or_else(ignore_absent)?;
    symlink("pts/ptmx", "/dev/ptmx")?;
    symlink("/proc/self/fd", "/dev/fd").or_else(ignore_present)?;
    for folder in [
        "/etc",
        "/run/kelyfos/etc",
        paths::SHARE,
        paths::IMAGES,
        paths::ROOTFS,
        paths::SCRATCH,
    ] {
        fs::create_dir_all(folder)?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}

fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn ignore_present(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists {
        Ok(())
    } else {
        Err(error)
    }
}

/// One at a time: a kernel that lacks one controller still gives the others.
fn enable_controllers() {
    for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
        let file = Path::new(paths::CGROUP).join("cgroup.subtree_control");
        if let Err(error) = fs::write(file, format!("+{controller}")) {
            log!("cgroup controller {controller}: {error}");
        }
    }
}
