//! Kernel parameters by their dotted names.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

const PROC_SYS: &str = "/proc/sys";

/// Sets a parameter and returns the value it had before.
pub fn set(name: &str, value: &str) -> io::Result<String> {
    let path = path_of(name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a kernel parameter"))?;
    let root = rustix::fs::open(
        PROC_SYS,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let open = |flags| {
        // Nothing below /proc/sys is a way out of it.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(&root, &path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).map(File::from)
    };
    let mut before = String::new();
    // Some parameters can only be written.
    if let Ok(file) = open(OFlags::RDONLY) {
        file.take(4096).read_to_string(&mut before)?;
    }
    open(OFlags::WRONLY)?.write_all(value.as_bytes())?;
    Ok(before.trim_end().to_owned())
}

/// The first separator says which is meant: a name with slashes is a path, in one with dots they become
/// slashes and slashes dots (net/ipv4/conf/eth0.1/forwarding, or net.ipv4.conf.eth0/1.forwarding), as sysctl(8)
/// has it.
fn path_of(name: &str) -> Option<String> {
    let dotted = name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.'));
    let swap = |it| match it {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dotted {
        name.chars().map(swap).collect()
    } else {
        name.to_owned()
    };
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().any(|it| it != b'.')
            && part
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || b"-_.:@".contains(&it))
    };
    (name.len() <= 256 && path.split('/').all(plain)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn turns_names_into_paths() {
        assert_eq!(path_of("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(
            path_of("net.ipv4.conf.eth0/100.forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.100/forwarding")
        );
        assert_eq!(
            path_of("net/ipv4/conf/eth0.100/forwarding").as_deref(),
            Some("net/ipv4/conf/eth0.100/forwarding")
        );
    }

    #[test]
    fn refuses_what_leads_elsewhere() {
        for name in [
            "",
            ".",
            "..",
            "net..ipv4",
            ".net",
            "net.",
            "net.//.ipv4",
            "a.//",
            "net ipv4",
            "net\0",
            "net\n.x",
        ] {
            assert_eq!(path_of(name), None, "{name:?}");
        }
    }
}
