//! Reading what the image, the pod and the kernel provide, and writing into the container's layer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Seek, SeekFrom, Write},
    os::unix::fs::{PermissionsExt, symlink},
};

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::{Outcome, read_all};

/// Present in every container.
const READ: [&str; 7] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/proc/self/maps",
    "/proc/self/status",
    "/proc/meminfo",
    "/proc/mounts",
];
/// Looked for by libraries, and often not there.
const SOUGHT: [&str; 4] = [
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/sys/fs/cgroup/memory.max",
];
/// In the image.
const OWN: &str = "/etc/passwd";
const FOLDER: &str = "/tmp/rehearsal";

pub fn read() -> Outcome {
    for path in READ {
        read_all(path)?;
    }
    for path in SOUGHT {
        // That it is missing is the usual case.
        let _ = read_all(path);
    }
    for folder in ["/", "/etc", "/dev", "/proc/self/fd"] {
        for entry in fs::read_dir(folder)? {
            // A descriptor in /proc may be gone by now.
            let _ = entry?.metadata();
        }
    }
    fs::canonicalize("/proc/self/exe")?;
    statvfs("/")?;
    let _terminal = io::stdin().is_terminal() || io::stdout().is_terminal();
    File::open("/dev/null")?;
    read_all("/dev/null")?;
    Ok(())
}

pub fn write() -> Outcome {
    let file = format!("{FOLDER}/file");
    let (moved, link) = (format!("{FOLDER}/moved"), format!("{FOLDER}/link"));
    fs::create_dir_all(FOLDER)?;
    let mut log = OpenOptions::new().create(true).append(true).open(&file)?;
    flock(&log, FlockOperation::LockExclusive)?;
    for _ in 0..4 {
        log.write_all(&[b'x'; 3000])?;
    }
    log.seek(SeekFrom::Start(0))?;
    log.set_permissions(fs::Permissions::from_mode(0o600))?;
    log.set_len(100)?;
    log.sync_all()?;
    drop(log);
    read_all(&file)?;
    fs::rename(&file, &moved)?;
    symlink(&moved, &link)?;
    fs::read_link(&link)?;
    fs::remove_dir_all(FOLDER)?;
    // The first change of a file of the image copies it into the layer.
    OpenOptions::new().append(true).open(OWN)?.write_all(b"\n")?;
    OpenOptions::new().write(true).open("/dev/null")?.write_all(b"x")?;
    Ok(())
}
