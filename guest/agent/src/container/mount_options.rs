//! Mount options as words, as /etc/fstab has them.

use super::{
    sys::MountAttributes,
    user_namespace::{Unmapped, UserNamespace},
};

/// All bits of a mount's way to keep access times.
const ATTRIBUTES_OF_ACCESS_TIME: u64 = 0x70;

#[derive(Clone, Copy)]
struct Word {
    name: &'static str,
    /// For mount(2).
    flag: u64,
    /// For `mount_setattr(2)`.
    attribute: u64,
    /// Whether the word clears them.
    clears: bool,
}

const fn word(name: &'static str, flag: u64, attribute: u64, clears: bool) -> Word {
    Word {
        name,
        flag,
        attribute,
        clears,
    }
}

const WORDS: [Word; 18] = [
    word("ro", libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY, false),
    word("rw", libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY, true),
    word("nosuid", libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID, false),
    word("suid", libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID, true),
    word("nodev", libc::MS_NODEV, libc::MOUNT_ATTR_NODEV, false),
    word("dev", libc::MS_NODEV, libc::MOUNT_ATTR_NODEV, true),
    word("noexec", libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC, false),
    word("exec", libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC, true),
    word("noatime", libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME, false),
    word("strictatime", libc::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME, false),
    word("relatime", libc::MS_RELATIME, 0, false),
    word("norelatime", libc::MS_RELATIME, 0, true),
    word("nodiratime", libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME, false),
    word("diratime", libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME, true),
    word("sync", libc::MS_SYNCHRONOUS, 0, false),
    word("async", libc::MS_SYNCHRONOUS, 0, true),
    word("dirsync", libc::MS_DIRSYNC, 0, false),
    word("defaults", 0, 0, false),
];

/// Said by other fields of the request.
const PASSED_OVER: [&str; 10] = [
    "bind", "rbind", "private", "rprivate", "slave", "rslave", "shared", "rshared", "rro", "rrw",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    flags: u64,
    set: u64,
    clear: u64,
    data: Vec<String>,
}

impl Options {
    /// A later word wins over an earlier one; what is no flag is for the file system.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Self {
        let mut options = Self::default();
        for given in words.iter().map(AsRef::as_ref) {
            match WORDS.iter().find(|word| word.name == given) {
                Some(word) if word.clears => {
                    options.flags &= !word.flag;
                    options.set &= !word.attribute;
                    options.clear |= word.attribute;
                }
                Some(word) => {
                    options.flags |= word.flag;
                    options.set |= word.attribute;
                    options.clear &= !word.attribute;
                }
                None if PASSED_OVER.contains(&given) => {}
                None => options.data.push(given.to_owned()),
            }
        }
        options
    }

    pub fn flags(&self, readonly: bool) -> u64 {
        self.flags | if readonly { libc::MS_RDONLY } else { 0 }
    }

    /// For the file system, which the guest's root mounts: owners are given by the guest's ids.
    pub fn data(&self, ids: Option<&UserNamespace>) -> Result<String, Unmapped> {
        let word = |word: &String| match (ids, word.split_once('=')) {
            (Some(ids), Some(("uid", id))) => mapped("uid", id, |id| ids.uid(id)).unwrap_or_else(|| Ok(word.clone())),
            (Some(ids), Some(("gid", id))) => mapped("gid", id, |id| ids.gid(id)).unwrap_or_else(|| Ok(word.clone())),
            _ => Ok(word.clone()),
        };
        let words: Vec<_> = self.data.iter().map(word).collect::<Result<_, _>>()?;
        Ok(words.join(","))
    }

    pub fn attributes(&self, readonly: bool) -> MountAttributes {
        let set = self.set | if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
        // The kernel wants the old way of access times cleared before it takes a new one.
        let times = if set & ATTRIBUTES_OF_ACCESS_TIME == 0 {
            0
        } else {
            ATTRIBUTES_OF_ACCESS_TIME
        };
        MountAttributes {
            set,
            clear: self.clear & !set | times,
            ..Default::default()
        }
    }
}

/// None for what is not an id: the kernel will say so.
fn mapped(name: &str, id: &str, map: impl Fn(u32) -> Result<u32, Unmapped>) -> Option<Result<String, Unmapped>> {
    let id = id.parse().ok()?;
    Some(map(id).map(|id| format!("{name}={id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_flags_attributes_and_data() {
        let options = Options::parse(&[
            "rbind", "nosuid", "noexec", "exec", "noatime", "mode=755", "size=1m", "ro",
        ]);
        assert_eq!(
            options.flags(false),
            libc::MS_NOSUID | libc::MS_NOATIME | libc::MS_RDONLY
        );
        assert_eq!(options.data(None).unwrap(), "mode=755,size=1m");
        let attributes = options.attributes(false);
        assert_eq!(
            attributes.set,
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_RDONLY
        );
        assert_eq!(attributes.clear, libc::MOUNT_ATTR_NOEXEC | ATTRIBUTES_OF_ACCESS_TIME);
    }

    #[test]
    fn read_only_wins_over_the_word() {
        let attributes = Options::parse(&["rw"]).attributes(true);
        assert_eq!((attributes.set, attributes.clear), (libc::MOUNT_ATTR_RDONLY, 0));
    }
}
