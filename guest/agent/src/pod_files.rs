//! Files that tell a pod who it is: hosts, resolv.conf, hostname, machine-id.
//!
//! They are rewritten in place, since containers have them bound by inode.

use std::{fmt::Write as _, fs, io, net::IpAddr, path::Path};

use crate::{container::user_namespace::Owner, paths, proto::Dns};

const MACHINE_ID: &str = "/etc/machine-id";

pub fn write_identity(hostname: &str, domainname: &str, addresses: &[IpAddr]) -> io::Result<()> {
    fs::write(paths::POD_HOSTNAME, format!("{hostname}\n"))?;
    fs::write(paths::POD_HOSTS, hosts(hostname, domainname, addresses))
}

pub fn write_resolver(dns: &Dns) -> io::Result<()> {
    fs::write(paths::POD_RESOLV_CONF, resolv_conf(dns))
}

/// Whose root may change them.
pub fn give_to(root: Owner) -> io::Result<()> {
    for file in [paths::POD_HOSTNAME, paths::POD_HOSTS, paths::POD_RESOLV_CONF] {
        std::os::unix::fs::chown(file, Some(root.uid), Some(root.gid))?;
    }
    Ok(())
}

pub fn write_machine_id(id: &str) -> io::Result<()> {
    fs::write(MACHINE_ID, format!("{id}\n"))
}

/// Empty before the first [`write_machine_id`].
pub fn machine_id() -> String {
    fs::read_to_string(Path::new(MACHINE_ID))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

fn hosts(hostname: &str, domainname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str("fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    if !hostname.is_empty() {
        let full = if domainname.is_empty() {
            String::new()
        } else {
            format!("{hostname}.{domainname} ")
        };
        for address in addresses {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{address}\t{full}{hostname}");
        }
    }
    text
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_hosts_with_every_address() {
        let addresses = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = hosts("web", "example.org", &addresses);
        assert!(
            text.ends_with("10.0.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"),
            "{text}"
        );
        assert!(!hosts("web", "", &addresses).contains("example"));
        assert!(!hosts("", "", &addresses).contains("10.0.0.2"));
    }

    #[test]
    fn writes_resolv_conf() {
        let text = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let dns = Dns {
            servers: text(&["10.0.0.10", "1.1.1.1"]),
            searches: text(&["a.b", "b"]),
            options: text(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&dns),
            "nameserver 10.0.0.10\nnameserver 1.1.1.1\nsearch a.b b\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&Dns::default()), "");
    }
}
