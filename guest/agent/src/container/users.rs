//! Who a process runs as: numbers, or names from the container's own /etc/passwd and /etc/group.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::BorrowedFd,
};

use thiserror::Error;

use super::sys;
use crate::proto;

/// Larger ones are not made by hand and not worth the guest's memory.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65536;

#[derive(Debug, Error)]
pub enum UserError {
    #[error("process.user: no user {0:?} in the container's /etc/passwd")]
    UnknownUser(String),
    #[error("process.user: no group {0:?} in the container's /etc/group")]
    UnknownGroup(String),
    #[error("process.user: {0:?} is not a user name")]
    BadName(String),
    #[error("process.user: more than {MAX_GROUPS} groups")]
    TooManyGroups,
    #[error("process.user: cannot read the container's /{path}: {source}")]
    Read { path: &'static str, source: io::Error },
}

/// A user as the kernel knows one, and what /etc/passwd says about the home directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The primary group among them, as a login would have it.
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

impl Identity {
    pub fn to_proto(&self, username: &str) -> proto::User {
        proto::User {
            uid: self.uid,
            gid: self.gid,
            additional_gids: self.groups.clone(),
            username: username.to_owned(),
            ..Default::default()
        }
    }
}

/// Looks `user` up in the root file system `root`.
pub fn resolve(user: &proto::User, root: BorrowedFd<'_>) -> Result<Identity, UserError> {
    let accounts = Accounts {
        passwd: read(root, "etc/passwd")?,
        group: read(root, "etc/group")?,
    };
    accounts.identity(user)
}

fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<String, UserError> {
    let failed = |source| UserError::Read { path, source };
    let name = std::ffi::CString::new(path).map_err(|error| failed(error.into()))?;
    // Without O_NONBLOCK a fifo of that name would hold the agent up.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match sys::openat2(root, &name, flags, sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS) {
        Ok(descriptor) => File::from(descriptor),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(String::new()),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(failed(io::Error::other("not a regular file of up to 1 MiB")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Accounts {
    passwd: String,
    group: String,
}

#[derive(Clone, Copy)]
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    fn users(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(PasswdEntry {
                name,
                uid,
                gid,
                home: fields.nth(1).unwrap_or_default(),
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            Some(GroupEntry {
                name,
                gid: fields.next()?.parse().ok()?,
                members: fields.next().unwrap_or_default(),
            })
        })
    }

    fn identity(&self, user: &proto::User) -> Result<Identity, UserError> {
        let (uid, gid, name) = self.principal(user)?;
        let entry = self
            .users()
            .find(|it| name.map_or(it.uid == uid, |name| it.name == name));
        let mut groups = vec![gid];
        groups.extend(&user.additional_gids);
        if let (false, Some(entry)) = (user.strict_groups, entry) {
            let member = |it: &GroupEntry<'_>| it.members.split(',').any(|member| member.trim() == entry.name);
            groups.extend(self.groups().filter(member).map(|it| it.gid));
        }
        // The first mention keeps its place.
        let mut seen = std::collections::HashSet::new();
        groups.retain(|gid| seen.insert(*gid));
        if groups.len() > MAX_GROUPS {
            return Err(UserError::TooManyGroups);
        }
        let home = entry.map(|it| it.home.to_owned()).filter(|home| home.starts_with('/'));
        Ok(Identity { uid, gid, groups, home })
    }

    /// The user, its primary group, and its name if it was given by name.
    fn principal<'a>(&self, user: &'a proto::User) -> Result<(u32, u32, Option<&'a str>), UserError> {
        if user.username.is_empty() {
            return Ok((user.uid, user.gid, None));
        }
        let (name, group) = match user.username.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user.username.as_str(), None),
        };
        if name.is_empty() || group.is_some_and(str::is_empty) || user.username.contains(['\n', '\0']) {
            return Err(UserError::BadName(user.username.clone()));
        }
        // A user may be called 1000; the name is tried before the number, as the peers do.
        let (uid, primary, by_name) = if let Some(entry) = self.users().find(|it| it.name == name) {
            (entry.uid, entry.gid, Some(name))
        } else {
            let uid = name.parse().map_err(|_| UserError::UnknownUser(name.to_owned()))?;
            (uid, self.users().find(|it| it.uid == uid).map_or(0, |it| it.gid), None)
        };
        let gid = match group {
            _ if user.gid_set => user.gid,
            Some(group) => self.group_id(group)?,
            None => primary,
        };
        Ok((uid, gid, by_name))
    }

    fn group_id(&self, group: &str) -> Result<u32, UserError> {
        let by_name = self.groups().find(|it| it.name == group).map(|it| it.gid);
        by_name
            .or_else(|| group.parse().ok())
            .ok_or_else(|| UserError::UnknownGroup(group.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nbad:x:one:1::/:\n\
                     web:x:33:44:Web:/var/www:/bin/sh\n1000:x:7:8::/seven:\nnohome:x:9:9::relative:\n"
                .to_owned(),
            group: "root:x:0:\nweb:x:44:\nlogs:x:50:web, other\nextra:x:51:root,web\n77:x:78:\nshort:x:60\n".to_owned(),
        }
    }

    fn named(username: &str) -> proto::User {
        proto::User {
            username: username.to_owned(),
            ..Default::default()
        }
    }

    fn identity(user: &proto::User) -> Identity {
        accounts().identity(user).unwrap()
    }

    #[test]
    fn numbers_are_taken_as_they_are() {
        let user = proto::User {
            uid: 33,
            gid: 5,
            additional_gids: vec![9, 5, 9],
            ..Default::default()
        };
        let found = identity(&user);
        assert_eq!(
            (found.uid, found.gid, found.groups.as_slice()),
            (33, 5, [5, 9, 50, 51].as_slice())
        );
        assert_eq!(found.home.as_deref(), Some("/var/www"));
        let strict = proto::User {
            strict_groups: true,
            ..user
        };
        assert_eq!(identity(&strict).groups, [5, 9]);
        assert_eq!(
            identity(&proto::User {
                uid: 4242,
                ..Default::default()
            })
            .home,
            None
        );
    }

    #[test]
    fn names_and_groups_are_looked_up() {
        let web = identity(&named("web"));
        assert_eq!(
            (web.uid, web.gid, web.groups.as_slice()),
            (33, 44, [44, 50, 51].as_slice())
        );
        let pair = identity(&named("web:logs"));
        assert_eq!((pair.uid, pair.gid), (33, 50));
        assert_eq!(identity(&named("33")).gid, 44);
        assert_eq!(identity(&named("4242")).gid, 0);
        assert_eq!(
            (identity(&named("4242:77")).uid, identity(&named("4242:77")).gid),
            (4242, 78)
        );
        assert_eq!(identity(&named("4242:79")).gid, 79);
        assert_eq!(identity(&named("1000")).uid, 7);
        assert_eq!(identity(&named("nohome")).home, None);
        let forced = proto::User {
            gid: 3,
            gid_set: true,
            ..named("web:logs")
        };
        assert_eq!(identity(&forced).gid, 3);
    }

    #[test]
    fn unknown_and_odd_names_are_errors() {
        let error = |name: &str| accounts().identity(&named(name)).unwrap_err().to_string();
        assert_eq!(
            error("nobody"),
            "process.user: no user \"nobody\" in the container's /etc/passwd"
        );
        assert_eq!(
            error("web:nogroup"),
            "process.user: no group \"nogroup\" in the container's /etc/group"
        );
        assert_eq!(error(":"), "process.user: \":\" is not a user name");
        assert_eq!(error("web:"), "process.user: \"web:\" is not a user name");
        assert_eq!(
            error("-1"),
            "process.user: no user \"-1\" in the container's /etc/passwd"
        );
        assert_eq!(
            error("4294967296"),
            "process.user: no user \"4294967296\" in the container's /etc/passwd"
        );
    }

    #[test]
    fn links_in_the_image_stay_in_the_image() {
        use std::os::{fd::AsFd, unix::fs::symlink};
        let root = std::env::temp_dir().join(format!("kelyfos-users-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/etc/passwd", root.join("etc/passwd")).unwrap();
        symlink("/other/group", root.join("etc/group")).unwrap();
        std::fs::create_dir_all(root.join("other")).unwrap();
        std::fs::write(root.join("other/group"), "inside:x:5:\n").unwrap();
        let directory = File::open(&root).unwrap();
        // A link to itself within the root, and not the host's file.
        assert!(matches!(
            read(directory.as_fd(), "etc/passwd"),
            Err(UserError::Read { .. })
        ));
        assert_eq!(read(directory.as_fd(), "etc/group").unwrap(), "inside:x:5:\n");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
