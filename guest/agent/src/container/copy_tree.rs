//! Copies a folder with all that makes its files what they are: owners, modes, times, extended
//! attributes, links, device nodes.

use std::{
    collections::HashMap,
    ffi::CString,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, chown, lchown, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, lsetxattr, mknodat,
    utimensat,
};
use rustix::io::Errno;

/// Largest value of an extended attribute: `XATTR_SIZE_MAX`.
const LARGEST_VALUE: usize = 64 * 1024;

/// Makes the empty folder `to` equal to the folder `from`, in which nothing may change meanwhile.
/// Links are copied, never followed.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy_folder(from, to, &mut HashMap::new())
}

/// First copy of each file that has several names.
type Copied = HashMap<(u64, u64), PathBuf>;

fn copy_folder(from: &Path, to: &Path, copied: &mut Copied) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_entry(&entry.path(), &to.join(entry.file_name()), copied)?;
    }
    // Last, for the times.
    copy_attributes(from, to, &fs::symlink_metadata(from)?)
}

fn copy_entry(from: &Path, to: &Path, copied: &mut Copied) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    let kind = found.file_type();
    if kind.is_dir() {
        fs::create_dir(to)?;
        return copy_folder(from, to, copied);
    }
    if found.nlink() > 1 {
        let key = (found.dev(), found.ino());
        if let Some(first) = copied.get(&key) {
            return fs::hard_link(first, to);
        }
        copied.insert(key, to.to_owned());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        let kind = if kind.is_char_device() {
            FileType::CharacterDevice
        } else if kind.is_block_device() {
            FileType::BlockDevice
        } else if kind.is_fifo() {
            FileType::Fifo
        } else {
            FileType::Socket
        };
        mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), found.rdev())?;
    }
    copy_attributes(from, to, &found)
}

fn copy_attributes(from: &Path, to: &Path, found: &fs::Metadata) -> io::Result<()> {
    if found.is_symlink() {
        lchown(to, Some(found.uid()), Some(found.gid()))?;
    } else {
        chown(to, Some(found.uid()), Some(found.gid()))?;
        // After the owner, whose change takes setuid away.
        fs::set_permissions(to, found.permissions())?;
    }
    copy_extended_attributes(from, to)?;
    let times = Timestamps {
        last_access: time(found.atime(), found.atime_nsec()),
        last_modification: time(found.mtime(), found.mtime_nsec()),
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn time(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

fn copy_extended_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; LARGEST_VALUE];
    let length = match llistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = CString::new(name)?;
        let mut value = vec![0; LARGEST_VALUE];
        let size = lgetxattr(from, &name, &mut value)?;
        match lsetxattr(to, &name, &value[..size], XattrFlags::empty()) {
            // A kind that this file system does not have, labels of another system for instance.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => {
                let name = name.to_string_lossy();
                return Err(io::Error::other(format!(
                    "attribute {name} of {}: {error}",
                    to.display()
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn temporary(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kelyfos-copy-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn what_makes_a_file_what_it_is_arrives() {
        let (from, to) = (temporary("from"), temporary("to"));
        fs::create_dir(from.join("folder")).unwrap();
        fs::write(from.join("folder/file"), "content").unwrap();
        fs::set_permissions(from.join("folder/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("folder/file"), from.join("same")).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();

        copy_tree(&from, &to).unwrap();

        let of = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(fs::read_to_string(to.join("folder/file")).unwrap(), "content");
        assert_eq!(of("folder/file").mode() & 0o7777, 0o4751);
        assert_eq!(of("folder/file").ino(), of("same").ino());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
        assert!(of("fifo").file_type().is_fifo());
        assert_eq!(of("").mode() & 0o7777, 0o1777);
        let original = fs::symlink_metadata(from.join("folder")).unwrap();
        assert_eq!(of("folder").mtime_nsec(), original.mtime_nsec());
        for folder in [from, to] {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
