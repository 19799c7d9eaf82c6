//! The end of a pod's pair of interfaces that a plugin has left on the host.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use kelyfos_netlink::{Attributes, Body, Netlink};
use libc::{RTM_GETLINK, RTM_GETNSID};

use crate::error::{Error, Result};
use crate::namespace;
use crate::network::{IFLA_IFNAME, IFLA_LINK, LINK_HEADER, Link};

const NSID_HEADER: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;

/// Turns IPv6 off on the outer end where it is a port of a bridge, as systemd-networkd does with ports: such an interface
/// passes on frames, and needs no address of its own. With one it speaks to the pod, and leaves routes behind when it
/// goes that the kernel takes another grace period to give up, with whoever removes the interface waiting.
///
/// Leaves the calling thread in the outer namespace.
pub fn silence(inner: &Link, netlink: &mut Netlink, outside: &File) -> Result<()> {
    let step = |error: io::Error| Error::during(format!("look at the other end of {}", inner.name))(error);
    let Some(end) = inner.other_end else { return Ok(()) };
    if number_of(outside, netlink).map_err(step)? != Some(end.namespace) {
        return Ok(());
    }
    namespace::switch(outside).map_err(Error::during("leave a namespace"))?;
    let header = [0, end.index, 0, 0].map(u32::to_ne_bytes).concat();
    let message = Netlink::open()
        .and_then(|mut outer| outer.ask(RTM_GETLINK, &header))
        .map_err(step)?;
    let Some(name) = port_of_a_bridge(&message, inner.index) else {
        return Ok(());
    };
    namespace::set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")
}

/// By which the connection's namespace knows another.
fn number_of(namespace: &File, netlink: &mut Netlink) -> io::Result<Option<u32>> {
    let body = Body::new(&[0; NSID_HEADER]).with(NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
    let answer = netlink.ask(RTM_GETNSID, body.bytes())?;
    Ok(Attributes::after(&answer, NSID_HEADER).u32(NETNSA_NSID))
}

/// Its name, if it is one and the other end of the interface of that index.
fn port_of_a_bridge(message: &[u8], inner: u32) -> Option<String> {
    let attributes = Attributes::after(message, LINK_HEADER);
    let info = Attributes::new(attributes.get(IFLA_LINKINFO)?);
    let is_port = info.name(IFLA_INFO_KIND)? == "veth" && info.name(IFLA_INFO_SLAVE_KIND)? == "bridge";
    if is_port && attributes.u32(IFLA_LINK) == Some(inner) {
        attributes.name(IFLA_IFNAME)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_port_of_a_bridge() {
        let end = |kind: &str, port: Option<&str>| {
            let info = Body::new(&[]).with_name(IFLA_INFO_KIND, kind);
            let info = match port {
                Some(of) => info.with_name(IFLA_INFO_SLAVE_KIND, of),
                None => info,
            };
            let link = Body::new(&[0; LINK_HEADER])
                .with_name(IFLA_IFNAME, "veth1")
                .with(IFLA_LINK, &2u32.to_ne_bytes());
            port_of_a_bridge(link.nest(IFLA_LINKINFO, &info).bytes(), 2)
        };
        assert_eq!(end("veth", Some("bridge")).as_deref(), Some("veth1"));
        assert_eq!(end("veth", Some("bond")), None);
        assert_eq!(end("veth", None), None);
        assert_eq!(end("vlan", Some("bridge")), None);
        assert_eq!(port_of_a_bridge(&[0; LINK_HEADER], 2), None);
    }
}
