//! From the mounts, devices and paths of a request to the steps that the child carries out.
//!
//! Sources are opened here, in the agent's mount namespace, as detached mounts with all their
//! attributes; the child only attaches them. So no path of the guest is looked up after the root has
//! changed, and none of the container's before.

use std::{
    ffi::{CString, NulError},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use thiserror::Error;

use super::{
    device_program::{self, DeviceError},
    guest_path,
    launcher::{
        plain,
        spec::{Action, MountPoint, Node, RootPlan, Step, Target},
    },
    mount_options::Options,
    sys::{self, MountAttributes},
    user_namespace::{Owner, Unmapped, UserNamespace},
    volumes::{self, VolumeError},
};
use crate::{
    disks::{self, DiskError},
    paths,
    proto::{
        self, CreateContainerRequest,
        mount::{Kind, Propagation},
    },
    rootfs::RootFs,
};

const MAX_MOUNTS: usize = 1024;
const MAX_PATHS: usize = 1024;
/// All of a guest are some two hundred.
const MAX_DEVICES: usize = 1024;

#[derive(Debug, Error)]
pub enum MountError {
    #[error("{field}: {path:?} is not {expected}")]
    Path {
        field: &'static str,
        path: String,
        expected: &'static str,
    },
    #[error("{0}: too many entries")]
    TooMany(&'static str),
    #[error("mounts: unknown kind {0}")]
    Kind(i32),
    #[error("mounts: {destination:?} is inside /proc")]
    InsideProc { destination: String },
    #[error("mounts: cannot open source {path:?}: {}", plain(.source))]
    Source { path: String, source: io::Error },
    #[error("mounts: cannot mount {path:?}: {}", plain(.source))]
    Mount { path: String, source: io::Error },
    #[error("mounts: disk {serial:?} has no file system that is known here")]
    FileSystem { serial: String },
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Unmapped(#[from] Unmapped),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("a path or option has a null byte in it")]
    Null(#[from] NulError),
}

/// All steps towards the root file system that the request describes; `root` is where `file_systems`
/// has it. With the mounts that it attaches, which must stay open until then. Blocks on the kernel.
pub fn plan(
    request: &CreateContainerRequest,
    root: &Path,
    file_systems: &RootFs,
    user_namespace: Option<&Arc<UserNamespace>>,
) -> Result<(RootPlan, Vec<OwnedFd>), MountError> {
    let ids = user_namespace.map(AsRef::as_ref);
    let owner = ids.map_or(Owner::ROOT, UserNamespace::root);
    limit("mounts", request.mounts.len(), MAX_MOUNTS)?;
    limit("devices", request.devices.len(), MAX_DEVICES)?;
    limit("masked_paths", request.masked_paths.len(), MAX_PATHS)?;
    limit("readonly_paths", request.readonly_paths.len(), MAX_PATHS)?;
    let (mut steps, mut trees) = (Vec::new(), Vec::new());
    let mut has_devices = false;
    for (index, mount) in request.mounts.iter().enumerate() {
        let kind = Kind::try_from(mount.kind).map_err(|_| MountError::Kind(mount.kind))?;
        let destination = destination(mount, kind)?;
        let label = format!("mount {destination:?}");
        steps.push(Step {
            action: match kind {
                Kind::Image => {
                    let source = volumes::image(file_systems, &request.id, mount)?;
                    clone(mount, &source, &mount.source, &destination, ids, &mut trees)?
                }
                Kind::Volume => {
                    // The disk forbids devices for all but the root file systems, and this is a part of one.
                    let source = volumes::own(file_systems, &request.id, index, root, &destination, owner)?;
                    let options = vec!["dev".to_owned()];
                    clone(
                        &proto::Mount {
                            options,
                            ..mount.clone()
                        },
                        &source,
                        &destination,
                        &destination,
                        None,
                        &mut trees,
                    )?
                }
                _ => action(mount, kind, &destination, ids, &mut trees)?,
            },
            label,
        });
        if kind == Kind::Dev {
            steps.push(default_devices(&destination, owner)?);
            has_devices |= destination == "/dev";
        }
    }
    if !has_devices {
        steps.push(default_devices("/dev", owner)?);
    }
    for device in request.devices.iter().filter(|device| !device.all) {
        steps.push(requested_device(device)?);
    }
    // Read-only first: a masked path below a read-only one would otherwise be covered again.
    for path in &request.readonly_paths {
        let path = clean("readonly_paths", path)?;
        let label = format!("make {path:?} read-only");
        steps.push(Step {
            action: Action::ReadOnly {
                path: CString::new(path)?,
            },
            label,
        });
    }
    for path in &request.masked_paths {
        let path = clean("masked_paths", path)?;
        steps.push(Step {
            label: format!("mask {path:?}"),
            action: Action::Mask {
                path: CString::new(path)?,
            },
        });
    }
    let readonly = request.rootfs.as_ref().is_some_and(|rootfs| rootfs.readonly);
    let plan = RootPlan {
        root: CString::new(root.as_os_str().as_encoded_bytes())?,
        steps,
        readonly,
        user_namespace: user_namespace.cloned(),
    };
    Ok((plan, trees))
}

fn limit(field: &'static str, count: usize, most: usize) -> Result<(), MountError> {
    if count > most {
        Err(MountError::TooMany(field))
    } else {
        Ok(())
    }
}

fn clean(field: &'static str, path: &str) -> Result<String, MountError> {
    let bad = || MountError::Path {
        field,
        path: path.chars().take(256).collect(),
        expected: "an absolute path",
    };
    guest_path::clean(path).ok_or_else(bad)
}

/// Files of /proc that may be covered because they only inform.
const PROC_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

fn destination(mount: &proto::Mount, kind: Kind) -> Result<String, MountError> {
    let destination = clean("mounts.destination", &mount.destination)?;
    if destination == "/" {
        return Err(MountError::Path {
            field: "mounts.destination",
            path: destination,
            expected: "below /",
        });
    }
    // Whoever could put files there could deceive what trusts /proc, masked paths above all.
    let allowed = kind == Kind::Proc || PROC_FILES.contains(&destination.as_str());
    if guest_path::is_within(&destination, "/proc") && !allowed {
        return Err(MountError::InsideProc { destination });
    }
    Ok(destination)
}

fn action(
    mount: &proto::Mount,
    kind: Kind,
    destination: &str,
    ids: Option<&UserNamespace>,
    trees: &mut Vec<OwnedFd>,
) -> Result<Action, MountError> {
    let file_system = |name: &str, defaults: &[&str]| new_file_system(mount, name, defaults, destination, ids);
    match kind {
        Kind::Bind => bind(mount, &clean("mounts.source", &mount.source)?, destination, trees),
        Kind::Shm => bind(mount, paths::POD_SHM, destination, trees),
        Kind::Hosts => bind(mount, paths::POD_HOSTS, destination, trees),
        Kind::ResolvConf => bind(mount, paths::POD_RESOLV_CONF, destination, trees),
        Kind::Hostname => bind(mount, paths::POD_HOSTNAME, destination, trees),
        Kind::Block => block(mount, destination, trees),
        Kind::Tmpfs => file_system("tmpfs", &[]),
        Kind::Proc => file_system("proc", &["nosuid", "nodev", "noexec"]),
        Kind::Sysfs => file_system("sysfs", &["nosuid", "nodev", "noexec"]),
        Kind::Cgroup => file_system("cgroup2", &["nosuid", "nodev", "noexec", "relatime"]),
        Kind::Mqueue => file_system("mqueue", &["nosuid", "nodev", "noexec"]),
        Kind::Devpts => file_system(
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        Kind::Dev => file_system("tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        // Known to the caller.
        Kind::Image | Kind::Volume => Err(MountError::Kind(mount.kind)),
    }
}

fn new_file_system(
    mount: &proto::Mount,
    name: &str,
    defaults: &[&str],
    destination: &str,
    ids: Option<&UserNamespace>,
) -> Result<Action, MountError> {
    // The only one that takes no ids beyond 2^31, which those outside may be.
    let inside = ids.is_some() && name == "devpts";
    let options = if mount.options.is_empty() {
        Options::parse(defaults)
    } else {
        Options::parse(&mount.options)
    };
    Ok(Action::Mount {
        source: CString::new(name)?,
        kind: CString::new(name)?,
        flags: options.flags(mount.readonly),
        data: CString::new(options.data(ids.filter(|_| !inside))?)?,
        target: Target::new(destination)?,
        plain: matches!(name, "proc" | "sysfs"),
        inside,
    })
}

fn bind(mount: &proto::Mount, source: &str, destination: &str, trees: &mut Vec<OwnedFd>) -> Result<Action, MountError> {
    let opened = sys::open_guest_path(&CString::new(source)?, libc::O_PATH);
    let opened = opened.map_err(|error| MountError::Source {
        path: source.to_owned(),
        source: error,
    })?;
    clone(mount, &opened.into(), source, destination, None, trees)
}

/// Mounts what is open; `source` names it in errors. With `ids` its owners are mapped.
fn clone(
    mount: &proto::Mount,
    file: &File,
    source: &str,
    destination: &str,
    ids: Option<&UserNamespace>,
    trees: &mut Vec<OwnedFd>,
) -> Result<Action, MountError> {
    let failed = |error| MountError::Source {
        path: source.to_owned(),
        source: error,
    };
    let point = if file.metadata().map_err(failed)?.is_dir() {
        MountPoint::Directory
    } else {
        MountPoint::File
    };
    let tree = sys::clone_tree(file.as_fd(), mount.recursive).map_err(failed)?;
    ids.map_or(Ok(()), |ids| ids.map_mount(tree.as_fd())).map_err(failed)?;
    attach(mount, tree, point, destination, trees)
}

fn attach(
    mount: &proto::Mount,
    tree: OwnedFd,
    point: MountPoint,
    destination: &str,
    trees: &mut Vec<OwnedFd>,
) -> Result<Action, MountError> {
    let failed = |source| MountError::Mount {
        path: destination.to_owned(),
        source,
    };
    let options = Options::parse(&mount.options);
    let attributes = options.attributes(mount.readonly || mount.recursive_readonly);
    sys::set_mount_attributes(tree.as_fd(), attributes, false).map_err(failed)?;
    if mount.recursive_readonly {
        let readonly = MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Default::default()
        };
        sys::set_mount_attributes(tree.as_fd(), readonly, true).map_err(failed)?;
    }
    let propagation = match mount.propagation() {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    let propagation = MountAttributes {
        propagation,
        ..Default::default()
    };
    sys::set_mount_attributes(tree.as_fd(), propagation, mount.recursive).map_err(failed)?;
    let action = Action::Attach {
        tree: tree.as_raw_fd(),
        target: Target::new(destination)?,
        point,
    };
    trees.push(tree);
    Ok(action)
}

fn block(mount: &proto::Mount, destination: &str, trees: &mut Vec<OwnedFd>) -> Result<Action, MountError> {
    let device = disks::find(&mount.source)?;
    let failed = |source| MountError::Mount {
        path: destination.to_owned(),
        source,
    };
    let kind = file_system_of(&device).map_err(failed)?;
    let kind = kind.ok_or_else(|| MountError::FileSystem {
        serial: mount.source.clone(),
    })?;
    let device = CString::new(device.as_os_str().as_encoded_bytes())?;
    let tree = sys::mount_detached(&CString::new(kind)?, &device, mount.readonly).map_err(failed)?;
    attach(mount, tree, MountPoint::Directory, destination, trees)
}

/// By the magic numbers of the file systems that the guest's kernel may have.
fn file_system_of(device: &Path) -> io::Result<Option<&'static str>> {
    const KNOWN: [(u64, &[u8], &str); 4] = [
        (1080, &[0x53, 0xef], "ext4"),
        (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "erofs"),
        (0, b"XFSB", "xfs"),
        (65600, b"_BHRfS_M", "btrfs"),
    ];
    let mut file = File::open(device)?;
    for (offset, magic, name) in KNOWN {
        let mut found = vec![0; magic.len()];
        file.seek(SeekFrom::Start(offset))?;
        match file.read_exact(&mut found) {
            Ok(()) if found == magic => return Ok(Some(name)),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

const DEFAULT_NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

fn default_devices(folder: &str, owner: Owner) -> Result<Step, MountError> {
    let nodes = DEFAULT_NODES.iter().map(|(name, major, minor)| {
        let device = libc::makedev(*major, *minor);
        Ok(Node {
            name: CString::new(*name)?,
            mode: libc::S_IFCHR | 0o666,
            device,
            uid: owner.uid,
            gid: owner.gid,
        })
    });
    let links = DEFAULT_LINKS
        .iter()
        .map(|(content, name)| Ok((CString::new(*content)?, CString::new(*name)?)));
    let action = Action::DefaultDevices {
        target: Target::new(folder)?,
        nodes: nodes.collect::<Result<_, NulError>>()?,
        links: links.collect::<Result<_, NulError>>()?,
    };
    Ok(Step {
        action,
        label: format!("make the default devices in {folder:?}"),
    })
}

fn requested_device(device: &proto::Device) -> Result<Step, MountError> {
    let path = clean("devices.path", &device.path)?;
    let bad = || MountError::Path {
        field: "devices.path",
        path: path.clone(),
        expected: "below /",
    };
    let (folder, name) = guest_path::split(&path).ok_or_else(bad)?;
    if guest_path::is_within(&path, "/proc") {
        return Err(MountError::InsideProc { destination: path });
    }
    let (kind, (major, minor)) = match device.r#type.as_str() {
        "b" => (libc::S_IFBLK, device_program::numbers(device)?),
        "c" | "u" => (libc::S_IFCHR, device_program::numbers(device)?),
        "p" => (libc::S_IFIFO, (0, 0)),
        found => {
            return Err(DeviceError::Type {
                path,
                found: found.to_owned(),
            }
            .into());
        }
    };
    let mode = if device.mode == 0 { 0o666 } else { device.mode & 0o7777 };
    let node = Node {
        name: CString::new(name)?,
        mode: kind | mode,
        device: libc::makedev(major, minor),
        uid: device.uid,
        gid: device.gid,
    };
    Ok(Step {
        action: Action::Device {
            parent: Target::new(folder)?,
            node,
        },
        label: format!("make device {path:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: Kind, destination: &str) -> proto::Mount {
        proto::Mount {
            kind: kind.into(),
            destination: destination.to_owned(),
            ..Default::default()
        }
    }

    fn plan_of(mounts: Vec<proto::Mount>) -> Result<RootPlan, MountError> {
        plan(
            &CreateContainerRequest {
                mounts,
                ..Default::default()
            },
            Path::new("/run/root"),
            &RootFs::default(),
            None,
        )
        .map(|(plan, _)| plan)
    }

    #[test]
    fn file_systems_take_defaults_or_the_options_given() {
        let mut tmpfs = mount(Kind::Tmpfs, "/tmp//x/");
        tmpfs.options = vec!["nosuid".to_owned(), "size=1m".to_owned()];
        let plan = plan_of(vec![mount(Kind::Proc, "/proc"), tmpfs]).unwrap();
        let Action::Mount {
            kind,
            flags,
            data,
            plain,
            ..
        } = &plan.steps[0].action
        else {
            panic!()
        };
        assert_eq!((kind.to_str(), data.to_str(), *plain), (Ok("proc"), Ok(""), true));
        assert_eq!(*flags, libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC);
        let Action::Mount {
            flags,
            data,
            target,
            plain,
            ..
        } = &plan.steps[1].action
        else {
            panic!()
        };
        assert_eq!((*flags, data.to_str(), *plain), (libc::MS_NOSUID, Ok("size=1m"), false));
        assert_eq!(target.path.to_str(), Ok("/tmp/x"));
        assert_eq!(plan.steps[1].label, "mount \"/tmp/x\"");
    }

    #[test]
    fn default_devices_follow_the_folder_they_are_in() {
        let plan = plan_of(vec![mount(Kind::Dev, "/dev"), mount(Kind::Devpts, "/dev/pts")]).unwrap();
        let labels: Vec<_> = plan.steps.iter().map(|step| step.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "mount \"/dev\"",
                "make the default devices in \"/dev\"",
                "mount \"/dev/pts\""
            ]
        );
        assert_eq!(plan_of(vec![]).unwrap().steps.len(), 1);
    }

    #[test]
    fn destinations_that_deceive_are_refused() {
        let error = |kind, destination| plan_of(vec![mount(kind, destination)]).err().map(|it| it.to_string());
        assert_eq!(
            error(Kind::Tmpfs, "/x/.."),
            Some("mounts.destination: \"/\" is not below /".to_owned())
        );
        assert_eq!(
            error(Kind::Tmpfs, "x"),
            Some("mounts.destination: \"x\" is not an absolute path".to_owned())
        );
        assert_eq!(
            error(Kind::Tmpfs, "/proc/sys"),
            Some("mounts: \"/proc/sys\" is inside /proc".to_owned())
        );
        assert_eq!(
            error(Kind::Tmpfs, "/a/../proc"),
            Some("mounts: \"/proc\" is inside /proc".to_owned())
        );
        assert_eq!(error(Kind::Tmpfs, "/proc/cpuinfo"), None);
        let odd = proto::Mount {
            kind: 99,
            ..Default::default()
        };
        assert_eq!(
            plan_of(vec![odd]).err().map(|it| it.to_string()),
            Some("mounts: unknown kind 99".to_owned())
        );
    }

    #[test]
    fn devices_keep_their_numbers_and_owner() {
        let device = proto::Device {
            path: "/dev/net/tun".to_owned(),
            r#type: "c".to_owned(),
            major: 10,
            minor: 200,
            mode: 0o600,
            uid: 5,
            gid: 6,
            ..Default::default()
        };
        let step = requested_device(&device).unwrap();
        let Action::Device { parent, node } = step.action else {
            panic!()
        };
        assert_eq!((parent.path.to_str(), node.name.to_str()), (Ok("/dev/net"), Ok("tun")));
        assert_eq!(
            (node.mode, node.device),
            (libc::S_IFCHR | 0o600, libc::makedev(10, 200))
        );
        assert_eq!((node.uid, node.gid), (5, 6));
    }
}
