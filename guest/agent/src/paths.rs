//! Where things are in the guest.

/// The 9p share; volumes are folders and files below it. A shared mount.
pub const SHARE: &str = "/share";
/// The pod's own /etc/hosts, /etc/resolv.conf and /etc/hostname, bound into containers.
pub const POD_HOSTS: &str = "/run/kelyfos/etc/hosts";
pub const POD_RESOLV_CONF: &str = "/run/kelyfos/etc/resolv.conf";
pub const POD_HOSTNAME: &str = "/run/kelyfos/etc/hostname";
/// The tmpfs that all containers of the pod see as /dev/shm.
pub const POD_SHM: &str = "/run/kelyfos/shm";
/// cgroup v2, controllers enabled for children of the root.
pub const CGROUP: &str = "/sys/fs/cgroup";
/// Images, one mount point per disk.
pub const IMAGES: &str = "/run/kelyfos/images";
/// Merged root file systems, one mount point per container.
pub const ROOTFS: &str = "/run/kelyfos/rootfs";
/// Folders while they are mounted with other owners.
pub const MAPPED: &str = "/run/kelyfos/mapped";
/// The scratch disk with a folder of writable layers per container.
pub const SCRATCH: &str = "/run/kelyfos/scratch";
