//! The command line. It is visible in /proc to everybody on the host and therefore holds no secrets.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use crate::descriptors::MAX_SOCKETS;
use crate::error::{Error, Result};
use crate::id_map::{IdMap, OwnerMap};
use crate::limits::Limit;

pub const USAGE: &str = "\
Usage: kelyfos-jailer run [options] -- PROGRAM [ARGUMENT...]
       kelyfos-jailer hold --name NAME --size BYTES
       kelyfos-jailer seal PATH
       kelyfos-jailer confine [--kvm] CGROUP
       kelyfos-jailer bind --jail PID [--read-only top|all] [--propagation private|slave]
                           [--map-users LIST --map-groups LIST] SOURCE TARGET
       kelyfos-jailer mappable FOLDER
       kelyfos-jailer pass [--writable] DEVICE

run: become PROGRAM inside a jail
  --uid N, --gid N      unprivileged user and group of this pod (required)
  --netns PATH          network namespace to join (required)
  --cgroup PATH         cgroup folder to join; repeat it for each v1 hierarchy
  --run DIR             /run in the jail, writable, given to the user
  --share DIR           /share in the jail, read-only; `bind` mounts volumes below it
  --disks DIR           /disks in the jail, read-only
  --scratch FILE        writable file below --disks, given to the user
  --guest DIR           /guest in the jail, read-only
  --read-only PATH      one more path to show, at the same place, read-only
  --tap NAME            tap of the network namespace, opened as descriptor 10
  --memory PATH         opened for reading and writing as descriptor 11
  --state-file PATH     opened for reading as descriptor 12
  --listen PATH         unix socket made there, listening as descriptor 13; the next ones 14 and 15
  --console PATH        log file, opened for appending as descriptor 16
  --kvm                 give the user /dev/kvm
  --rlimit LIST         NAME=N or NAME=SOFT:HARD, comma-separated
  --small-pages         no transparent huge pages
  --file-capabilities   keep CHOWN, DAC_OVERRIDE, FOWNER, FSETID and MKNOD, for 9p

hold: keep a memory file of BYTES open as descriptor 3 until killed
seal: make such a file (/proc/PID/fd/3) unchangeable for ever
confine: put the device rules of a jail on another cgroup folder, before a jail's process moves there
bind: mount SOURCE, with what is mounted below it, at TARGET of a running jail and nowhere else, without devices
      and setuid, in one step; removing TARGET on the host takes the mount away again. LIST: comma-separated
      DISK:SHOWN:LENGTH, what owners on disk are to the jail; not for what is mounted below
mappable: fail where owners of files below FOLDER cannot be mapped
pass: open the block device DEVICE and send it, with a line feed, over the unix socket that is descriptor 3
";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunRequest {
    pub uid: u32,
    pub gid: u32,
    pub netns: PathBuf,
    pub cgroups: Vec<PathBuf>,
    pub run: Option<PathBuf>,
    pub share: Option<PathBuf>,
    pub disks: Option<PathBuf>,
    pub scratch: Option<PathBuf>,
    pub guest: Option<PathBuf>,
    pub read_only: Vec<PathBuf>,
    pub tap: Option<CString>,
    pub memory: Option<PathBuf>,
    pub state_file: Option<PathBuf>,
    pub listen: Vec<PathBuf>,
    pub console: Option<PathBuf>,
    pub kvm: bool,
    pub limits: Vec<Limit>,
    pub small_pages: bool,
    pub file_capabilities: bool,
    /// The program and its arguments, never empty.
    pub argv: Vec<CString>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// What is mounted below the source later stays out.
    #[default]
    Private,
    /// What is mounted below the source later appears below the target.
    Slave,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadOnly {
    #[default]
    No,
    /// What is mounted below the source stays as it is.
    Top,
    All,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct BindRequest {
    /// A process in the jail.
    pub jail: u32,
    pub source: PathBuf,
    /// In the jail.
    pub target: PathBuf,
    pub read_only: ReadOnly,
    pub propagation: Propagation,
    pub owners: Option<OwnerMap>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Run(Box<RunRequest>),
    Hold { name: CString, size: u64 },
    Seal { path: PathBuf },
    Confine { cgroup: PathBuf, kvm: bool },
    Bind(BindRequest),
    Mappable { folder: PathBuf },
    Pass { device: PathBuf, writable: bool },
    Help,
    Version,
}

pub fn parse(arguments: impl IntoIterator<Item = OsString, IntoIter: 'static>) -> Result<Command> {
    let mut parser = lexopt::Parser::from_args(arguments);
    match parser.next().map_err(usage)? {
        Some(Value(word)) => match word.to_str() {
            Some("run") => run(parser),
            Some("hold") => hold(parser),
            Some("seal") => seal(parser),
            Some("confine") => confine(parser),
            Some("bind") => bind(parser),
            Some("mappable") => mappable(parser),
            Some("pass") => pass(parser),
            _ => Err(Error::Usage(format!("unknown command {}", word.display()))),
        },
        Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(Short('V') | Long("version")) => Ok(Command::Version),
        Some(other) => Err(usage(other.unexpected())),
        None => Err(Error::Usage("no command given, see --help".into())),
    }
}

fn confine(mut parser: lexopt::Parser) -> Result<Command> {
    let (mut cgroup, mut kvm) = (None, false);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("kvm") => kvm = true,
            Value(folder) if cgroup.is_none() => cgroup = Some(PathBuf::from(folder)),
            other => return Err(usage(other.unexpected())),
        }
    }
    let cgroup = cgroup.ok_or_else(|| Error::Usage("confine: no cgroup given".into()))?;
    Ok(Command::Confine { cgroup, kvm })
}

fn run(mut parser: lexopt::Parser) -> Result<Command> {
    let mut request = RunRequest::default();
    let (mut uid, mut gid, mut netns) = (None, None, None);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("uid") => uid = Some(identity("--uid", &mut parser)?),
            Long("gid") => gid = Some(identity("--gid", &mut parser)?),
            Long("netns") => netns = Some(path("--netns", &mut parser)?),
            Long("cgroup") => request.cgroups.push(path("--cgroup", &mut parser)?),
            Long("run") => request.run = Some(path("--run", &mut parser)?),
            Long("share") => request.share = Some(path("--share", &mut parser)?),
            Long("disks") => request.disks = Some(path("--disks", &mut parser)?),
            Long("scratch") => request.scratch = Some(path("--scratch", &mut parser)?),
            Long("guest") => request.guest = Some(path("--guest", &mut parser)?),
            Long("read-only") => request.read_only.push(path("--read-only", &mut parser)?),
            Long("tap") => request.tap = Some(interface(&mut parser)?),
            Long("memory") => request.memory = Some(path("--memory", &mut parser)?),
            Long("state-file") => request.state_file = Some(path("--state-file", &mut parser)?),
            Long("listen") => request.listen.push(path("--listen", &mut parser)?),
            Long("console") => request.console = Some(path("--console", &mut parser)?),
            Long("kvm") => request.kvm = true,
            Long("rlimit") => {
                let list = parser.value().map_err(usage)?.string().map_err(usage)?;
                for item in list.split(',') {
                    request.limits.push(item.parse().map_err(Error::Usage)?);
                }
            }
            Long("small-pages") => request.small_pages = true,
            Long("file-capabilities") => request.file_capabilities = true,
            Value(program) => {
                // lexopt hands out the first word after `--`; all that follows belongs to the program.
                request.argv.push(c_string(program)?);
                for word in parser.raw_args().map_err(usage)? {
                    request.argv.push(c_string(word)?);
                }
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    request.uid = uid.ok_or_else(|| missing("--uid"))?;
    request.gid = gid.ok_or_else(|| missing("--gid"))?;
    request.netns = netns.ok_or_else(|| missing("--netns"))?;
    if request.argv.is_empty() {
        return Err(missing("the program to run, after --"));
    }
    if request.listen.len() > MAX_SOCKETS {
        return Err(Error::Usage(format!("--listen: no more than {MAX_SOCKETS} sockets")));
    }
    if let Some(scratch) = &request.scratch {
        let inside = request
            .disks
            .as_deref()
            .and_then(|disks| scratch.strip_prefix(disks).ok());
        if !inside.is_some_and(is_one_name) {
            return Err(Error::Usage(
                "--scratch must be a file directly in the folder given by --disks".into(),
            ));
        }
    }
    Ok(Command::Run(Box::new(request)))
}

fn hold(mut parser: lexopt::Parser) -> Result<Command> {
    let (mut name, mut size) = (None, None);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("name") => name = Some(c_string(parser.value().map_err(usage)?)?),
            Long("size") => size = Some(number("--size", &mut parser)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let size = size.ok_or_else(|| missing("--size"))?;
    if size == 0 || i64::try_from(size).is_err() {
        return Err(Error::Usage(format!("--size: {size} is not a size of memory in bytes")));
    }
    Ok(Command::Hold {
        name: name.ok_or_else(|| missing("--name"))?,
        size,
    })
}

fn seal(mut parser: lexopt::Parser) -> Result<Command> {
    let mut words = positional(&mut parser, |argument| Err(usage(argument.unexpected())))?;
    match (words.pop(), words.pop()) {
        (Some(path), None) => Ok(Command::Seal { path }),
        _ => Err(Error::Usage("seal takes one path".into())),
    }
}

fn bind(mut parser: lexopt::Parser) -> Result<Command> {
    let mut request = BindRequest::default();
    let (mut jail, mut users, mut groups) = (None, None, None);
    let mut words = Vec::new();
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("jail") => jail = Some(number("--jail", &mut parser)?),
            Long("map-users") => users = Some(id_map("--map-users", &mut parser)?),
            Long("map-groups") => groups = Some(id_map("--map-groups", &mut parser)?),
            Long("read-only") => {
                let choices = [("top", ReadOnly::Top), ("all", ReadOnly::All)];
                request.read_only = choice("--read-only", &mut parser, choices)?;
            }
            Long("propagation") => {
                let choices = [("private", Propagation::Private), ("slave", Propagation::Slave)];
                request.propagation = choice("--propagation", &mut parser, choices)?;
            }
            Value(word) => words.push(absolute("bind", word)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let jail = jail.ok_or_else(|| missing("--jail"))?;
    request.owners = match (users, groups) {
        (None, None) => None,
        (Some(users), Some(groups)) => Some(OwnerMap { users, groups }),
        (None, _) => return Err(missing("--map-users")),
        (_, None) => return Err(missing("--map-groups")),
    };
    match <[PathBuf; 2]>::try_from(words) {
        Ok([source, target]) => Ok(Command::Bind(BindRequest {
            jail,
            source,
            target,
            ..request
        })),
        Err(_) => Err(Error::Usage("bind takes a source and a target".into())),
    }
}

fn mappable(mut parser: lexopt::Parser) -> Result<Command> {
    let mut words = positional(&mut parser, |argument| Err(usage(argument.unexpected())))?;
    match (words.pop(), words.pop()) {
        (Some(folder), None) => Ok(Command::Mappable { folder }),
        _ => Err(Error::Usage("mappable takes one folder".into())),
    }
}

fn pass(mut parser: lexopt::Parser) -> Result<Command> {
    let mut writable = false;
    let mut words = positional(&mut parser, |argument| match argument {
        Long("writable") => {
            writable = true;
            Ok(())
        }
        other => Err(usage(other.unexpected())),
    })?;
    match (words.pop(), words.pop()) {
        (Some(device), None) => Ok(Command::Pass { device, writable }),
        _ => Err(Error::Usage("pass takes one device".into())),
    }
}

fn positional(parser: &mut lexopt::Parser, mut option: impl FnMut(lexopt::Arg) -> Result<()>) -> Result<Vec<PathBuf>> {
    let mut words = Vec::new();
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Value(word) => words.push(PathBuf::from(word)),
            other => option(other)?,
        }
    }
    Ok(words)
}

fn id_map(option: &str, parser: &mut lexopt::Parser) -> Result<IdMap> {
    let text = parser.value().map_err(usage)?.string().map_err(usage)?;
    IdMap::parse(option, &text)
}

fn choice<T>(option: &str, parser: &mut lexopt::Parser, choices: [(&str, T); 2]) -> Result<T> {
    let word = parser.value().map_err(usage)?;
    let names = choices.each_ref().map(|(name, _)| *name);
    let found = choices.into_iter().find(|(name, _)| word == *name);
    let [first, second] = names;
    found
        .map(|(_, value)| value)
        .ok_or_else(|| Error::Usage(format!("{option}: {} is neither {first} nor {second}", word.display())))
}

// By value, as map_err hands it over.
#[allow(clippy::needless_pass_by_value)]
fn usage(error: lexopt::Error) -> Error {
    Error::Usage(error.to_string())
}

fn missing(what: &str) -> Error {
    Error::Usage(format!("{what} is missing"))
}

fn number<T: std::str::FromStr>(option: &str, parser: &mut lexopt::Parser) -> Result<T> {
    let text = parser.value().map_err(usage)?.string().map_err(usage)?;
    text.parse()
        .map_err(|_| Error::Usage(format!("{option}: {text} is not a number that fits")))
}

/// 0 would be root, and the last number means "leave it" to the kernel.
fn identity(option: &str, parser: &mut lexopt::Parser) -> Result<u32> {
    match number(option, parser)? {
        id @ (0 | u32::MAX) => Err(Error::Usage(format!("{option}: {id} is not an unprivileged id"))),
        id => Ok(id),
    }
}

fn interface(parser: &mut lexopt::Parser) -> Result<CString> {
    let name = c_string(parser.value().map_err(usage)?)?;
    if name.is_empty() || name.as_bytes().len() >= libc::IFNAMSIZ {
        return Err(Error::Usage(format!(
            "--tap: {} is not an interface name",
            name.to_string_lossy()
        )));
    }
    Ok(name)
}

fn path(option: &str, parser: &mut lexopt::Parser) -> Result<PathBuf> {
    absolute(option, parser.value().map_err(usage)?)
}

/// Relative paths and `..` would mean something else once the root has changed.
fn absolute(option: &str, word: impl Into<PathBuf>) -> Result<PathBuf> {
    let path = word.into();
    let plain = path
        .components()
        .all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.is_absolute() && plain && !path.as_os_str().as_bytes().contains(&0) {
        Ok(path)
    } else {
        Err(Error::Usage(format!(
            "{option}: {} is not an absolute path without ..",
            path.display()
        )))
    }
}

fn is_one_name(path: &Path) -> bool {
    path.components().count() == 1
}

fn c_string(word: OsString) -> Result<CString> {
    CString::new(word.into_vec()).map_err(|_| Error::Usage("an argument holds a zero byte".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn refused(line: &str) -> String {
        match parse(words(line)) {
            Err(Error::Usage(reason)) => reason,
            other => panic!("{line}: {other:?}"),
        }
    }

    const LEAST: &str = "run --uid 7 --gid 8 --netns /run/netns/a";

    #[test]
    fn run_takes_everything() {
        let line = format!(
            "{LEAST} --cgroup /c/1 --cgroup /c/2 --share /s --disks /d --scratch /d/scratch.img \
             --guest /g --read-only /opt/qemu --tap tap0 --memory /proc/9/fd/3 --state-file /t/state --kvm --listen /v/a --listen /v/b --console /v/log --run /r \
             --rlimit nofile=10,core=0 --small-pages --file-capabilities -- qemu -S --uid 0"
        );
        let Ok(Command::Run(request)) = parse(words(&line)) else {
            panic!("refused");
        };
        assert_eq!((request.uid, request.gid), (7, 8));
        assert_eq!(request.cgroups, [PathBuf::from("/c/1"), PathBuf::from("/c/2")]);
        assert_eq!(request.scratch, Some("/d/scratch.img".into()));
        assert_eq!(request.read_only, [PathBuf::from("/opt/qemu")]);
        assert_eq!(request.tap.as_deref(), Some(c"tap0"));
        assert_eq!(request.listen, [PathBuf::from("/v/a"), PathBuf::from("/v/b")]);
        assert_eq!(request.limits.len(), 2);
        assert!(request.kvm && request.small_pages && request.file_capabilities);
        assert_eq!(
            request.argv,
            ["qemu", "-S", "--uid", "0"].map(|word| CString::new(word).unwrap())
        );
    }

    #[test]
    fn no_right_is_given_by_default() {
        let Ok(Command::Run(request)) = parse(words(&format!("{LEAST} -- qemu"))) else {
            panic!("refused");
        };
        assert!(!request.kvm && !request.file_capabilities && request.share.is_none() && request.disks.is_none());
    }

    #[test]
    fn what_would_weaken_the_jail_is_refused() {
        assert_eq!(refused("run --gid 8 --netns /n -- qemu"), "--uid is missing");
        assert_eq!(refused("run --uid 7 --gid 8 -- qemu"), "--netns is missing");
        assert!(refused("run --uid 0 --gid 8 --netns /n -- qemu").contains("unprivileged"));
        assert!(refused("run --uid 7 --gid 4294967295 --netns /n -- qemu").contains("unprivileged"));
        assert!(refused("run --uid 4294967296 --gid 1 --netns /n -- qemu").contains("number"));
        assert!(refused(&format!("{LEAST} --share a/b -- qemu")).contains("absolute"));
        assert!(refused(&format!("{LEAST} --share /a/../b -- qemu")).contains("absolute"));
        assert!(refused(&format!("{LEAST} --scratch /d/x -- qemu")).contains("--disks"));
        assert!(refused(&format!("{LEAST} --disks /d --scratch /d/x/y -- qemu")).contains("--disks"));
        assert!(refused(&format!("{LEAST} --disks /d --scratch /d -- qemu")).contains("--disks"));
        assert!(refused(&format!("{LEAST} --tap a-name-that-is-too-long -- qemu")).contains("interface"));
        assert!(
            refused(&format!(
                "{LEAST} --listen /1 --listen /2 --listen /3 --listen /4 -- qemu"
            ))
            .contains("--listen")
        );
        assert!(refused(&format!("{LEAST} --volume /x -- qemu")).contains("--volume"));
    }

    #[test]
    fn a_program_is_needed() {
        assert!(refused(LEAST).contains("program"));
        assert!(refused(&format!("{LEAST} --")).contains("program"));
    }

    #[test]
    fn hold_wants_a_size_that_can_be() {
        let Ok(Command::Hold { name, size }) = parse(words("hold --name t --size 4096")) else {
            panic!("refused");
        };
        assert_eq!((name.as_c_str(), size), (c"t", 4096));
        for size in ["0", "-1", "1G", "18446744073709551615"] {
            refused(&format!("hold --name t --size {size}"));
        }
        refused("hold --size 1");
        refused("hold --name t");
    }

    #[test]
    fn seal_and_bind_take_their_paths() {
        assert_eq!(
            parse(words("seal /proc/1/fd/3")).unwrap(),
            Command::Seal {
                path: "/proc/1/fd/3".into()
            }
        );
        refused("seal");
        refused("seal /a /b");
        let expected = BindRequest {
            jail: 9,
            source: "/a".into(),
            target: "/b".into(),
            read_only: ReadOnly::Top,
            propagation: Propagation::Slave,
            owners: Some(OwnerMap {
                users: IdMap::parse("", "0:1000:10").unwrap(),
                groups: IdMap::parse("", "0:2000:10").unwrap(),
            }),
        };
        let line =
            "bind --jail 9 --read-only top --propagation slave --map-users 0:1000:10 --map-groups 0:2000:10 /a /b";
        assert_eq!(parse(words(line)).unwrap(), Command::Bind(expected));
        for line in [
            "bind /a /b",
            "bind --jail x /a /b",
            "bind --jail 9 /a",
            "bind --jail 9 a /b",
            "bind --jail 9 /a /b /c",
            "bind --jail 9 --propagation shared /a /b",
            "bind --jail 9 --read-only /a /b",
            "bind --jail 9 --map-users 0:1:1 /a /b",
            "bind --jail 9 --map-groups 0:1:1 /a /b",
            "mappable",
        ] {
            refused(line);
        }
    }

    #[test]
    fn an_unknown_command_is_named() {
        assert_eq!(refused("jump"), "unknown command jump");
        refused("");
    }
}
