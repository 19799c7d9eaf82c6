//! Interfaces, addresses, routes and neighbours of the pod.

mod links;
pub mod plan;

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use kelyfos_netlink::{Body, NLM_F_CREATE, NLM_F_REPLACE, Netlink};
use libc::{
    NDA_DST, NDA_LLADDR, NUD_PERMANENT, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_METRICS, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTA_VIA, RTM_DELADDR, RTM_DELNEIGH, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE,
    RTM_SETLINK, RTN_UNICAST, RTPROT_BOOT,
};

use crate::log;

use self::plan::{Cidr, Interface, Mac, Neighbour, Plan, Route, is_link_local};

// linux/if_link.h, if_addr.h, rtnetlink.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
const RTAX_MTU: u16 = 2;
const RTNH_F_ONLINK: u32 = 4;
const IFF_UP: u32 = 1;

/// What has been configured, so that the next configuration can take it back.
#[derive(Debug, Default)]
pub struct Network {
    /// Kinds and bodies of the requests that do it.
    undo: Vec<(u16, Body)>,
    /// Interfaces that are up because of us.
    up: Vec<String>,
    /// Devices that were moved to another network namespace, where nothing tells their order.
    moved: Option<Vec<u32>>,
}

impl Network {
    /// Hands all devices over to another network namespace, without anything that was configured. What is applied
    /// from then on is applied there, by a thread that is in it.
    pub fn move_to(&mut self, namespace: BorrowedFd<'_>) -> io::Result<()> {
        let mut netlink = Netlink::open()?;
        let nics = links::nics()?;
        let namespace = namespace.as_raw_fd().to_ne_bytes();
        for index in &nics {
            let body = link_body(*index, 0, 0).with(IFLA_NET_NS_FD, &namespace);
            set_link(&mut netlink, &body).map_err(|error| step(&format!("move device {index}"), &error))?;
        }
        *self = Self {
            moved: Some(nics),
            ..Self::default()
        };
        Ok(())
    }

    /// Takes back what an earlier plan made, then makes this one.
    pub fn apply(&mut self, plan: &Plan) -> io::Result<()> {
        let mut netlink = Netlink::open()?;
        self.revert(&mut netlink, plan);
        set_link(&mut netlink, &link("lo", IFF_UP)?).map_err(|error| step("set lo up", &error))?;
        let nics = match &self.moved {
            Some(nics) => nics.clone(),
            None => links::nics()?,
        };
        for interface in &plan.interfaces {
            self.configure(&mut netlink, interface, &nics)
                .map_err(|error| step(&format!("interface {}", interface.name), &error))?;
        }
        for it in &plan.routes {
            let body = route(it).map_err(|error| step(&describe(it), &error))?;
            self.make(&mut netlink, RTM_NEWROUTE, RTM_DELROUTE, body)
                .map_err(|error| step(&describe(it), &error))?;
        }
        for it in &plan.neighbours {
            self.make(&mut netlink, RTM_NEWNEIGH, RTM_DELNEIGH, neighbour(it)?)
                .map_err(|error| step(&format!("neighbour {}", it.address), &error))?;
        }
        Ok(())
    }

    /// Makes it, or puts it in the place of what is there. The inverse is the kind of the request that takes it back.
    fn make(&mut self, netlink: &mut Netlink, kind: u16, inverse: u16, body: Body) -> io::Result<()> {
        netlink.request(kind, NLM_F_CREATE | NLM_F_REPLACE, body.bytes())?;
        self.undo.push((inverse, body));
        Ok(())
    }

    fn revert(&mut self, netlink: &mut Netlink, next: &Plan) {
        for (kind, body) in std::mem::take(&mut self.undo).iter().rev() {
            // It may have gone with something else: a route with its address, all with the interface.
            let _ = netlink.request(*kind, 0, body.bytes());
        }
        for name in std::mem::take(&mut self.up) {
            if next.interfaces.iter().all(|it| it.name != name) {
                let result = link(&name, 0).and_then(|body| set_link(netlink, &body));
                if let Err(error) = result {
                    log!("set {name} down: {error}");
                }
            }
        }
    }

    fn configure(&mut self, netlink: &mut Netlink, interface: &Interface, nics: &[u32]) -> io::Result<()> {
        let position = usize::try_from(interface.nic).unwrap_or(usize::MAX);
        let absent = || io::Error::new(io::ErrorKind::NotFound, format!("no network device {position}"));
        let index = *nics.get(position).ok_or_else(absent)?;
        let name = &interface.name;
        if links::index_of(name).ok() != Some(index) {
            rename(netlink, index, name).map_err(|error| step("rename", &error))?;
        }
        if let Some(mac) = interface.mac {
            let body = link_body(index, 0, 0).with(IFLA_ADDRESS, &mac);
            set_link(netlink, &body).map_err(|error| step("set the MAC address", &error))?;
        }
        if interface.mtu != 0 {
            let body = link_body(index, 0, 0).with(IFLA_MTU, &interface.mtu.to_ne_bytes());
            set_link(netlink, &body).map_err(|error| step("set the MTU", &error))?;
        }
        let speaks_ipv6 = interface.addresses.iter().any(|it| it.address.is_ipv6());
        quiet_ipv6(name, speaks_ipv6);
        set_link(netlink, &link_body(index, IFF_UP, IFF_UP)).map_err(|error| step("set up", &error))?;
        self.up.push(name.clone());
        for cidr in addresses_of(interface) {
            self.make(netlink, RTM_NEWADDR, RTM_DELADDR, address(index, cidr))
                .map_err(|error| step(&format!("add {}", cidr.address), &error))?;
        }
        Ok(())
    }
}

/// The kernel generates link-local addresses late and checks them for duplicates for a second; the
/// host's end has done that already, and the pod needs its address at once. Router advertisements
/// would add what nobody asked for. An interface without an IPv6 address speaks none at all: what it
/// says about its multicast groups would wake the guests of all other pods.
fn quiet_ipv6(name: &str, speaks_ipv6: bool) {
    let folder = Path::new("/proc/sys/net/ipv6/conf").join(name);
    let disabled = if speaks_ipv6 { "0" } else { "1" };
    for (file, value) in [
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("addr_gen_mode", "1"),
        ("disable_ipv6", disabled),
    ] {
        if let Err(error) = fs::write(folder.join(file), value) {
            log!("net.ipv6.conf.{name}.{file}: {error}");
        }
    }
}

/// The wanted addresses, and for IPv6 the link-local one that neighbour discovery needs.
fn addresses_of(interface: &Interface) -> Vec<Cidr> {
    let mut all = interface.addresses.clone();
    let needs_link_local =
        all.iter().any(|it| it.address.is_ipv6()) && !all.iter().any(|it| is_link_local(&it.address));
    if let (true, Some(mac)) = (needs_link_local, interface.mac) {
        all.push(Cidr {
            address: IpAddr::V6(link_local(mac)),
            prefix: 64,
        });
    }
    all
}

/// Modified EUI-64.
fn link_local(mac: Mac) -> Ipv6Addr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    octets[8..11].copy_from_slice(&mac[..3]);
    octets[13..].copy_from_slice(&mac[3..]);
    octets[8] ^= 2;
    octets.into()
}

/// A name that another device holds is taken from it: that device is given its own later, or none.
fn rename(netlink: &mut Netlink, index: u32, name: &str) -> io::Result<()> {
    let name_it = |index: u32, name: &str| link_body(index, 0, IFF_UP).with_name(IFLA_IFNAME, name);
    if let Ok(holder) = links::index_of(name) {
        set_link(netlink, &name_it(holder, &format!("unused{holder}")))?;
    }
    // Down first: an interface that is up keeps its name.
    set_link(netlink, &link_body(index, 0, IFF_UP))?;
    set_link(netlink, &name_it(index, name))
}

fn set_link(netlink: &mut Netlink, body: &Body) -> io::Result<()> {
    netlink.request(RTM_SETLINK, 0, body.bytes())
}

fn link(name: &str, flags: u32) -> io::Result<Body> {
    Ok(link_body(links::index_of(name)?, flags, IFF_UP))
}

/// `struct ifinfomsg`
fn link_body(index: u32, flags: u32, change: u32) -> Body {
    let header = [
        0u32.to_ne_bytes(),
        index.to_ne_bytes(),
        flags.to_ne_bytes(),
        change.to_ne_bytes(),
    ]
    .concat();
    Body::new(&header)
}

/// `struct ifaddrmsg`
fn address(index: u32, cidr: Cidr) -> Body {
    let scope = if is_link_local(&cidr.address) { 253 } else { 0 };
    let bytes = octets(cidr.address);
    let header = [
        &[family(cidr.address), cidr.prefix, IFA_F_NODAD, scope],
        index.to_ne_bytes().as_slice(),
    ]
    .concat();
    let body = Body::new(&header).with(IFA_LOCAL, &bytes).with(IFA_ADDRESS, &bytes);
    match cidr.address {
        IpAddr::V4(it) if cidr.prefix < 31 => {
            let broadcast = it.to_bits() | (u32::MAX >> cidr.prefix);
            body.with(IFA_BROADCAST, &broadcast.to_be_bytes())
        }
        _ => body,
    }
}

/// `struct rtmsg`
fn route(it: &Route) -> io::Result<Body> {
    let destination = it.destination;
    let flags = if it.onlink { RTNH_F_ONLINK } else { 0 };
    let header = [
        [family(destination.address), destination.prefix, 0, 0],
        [RT_TABLE_MAIN, RTPROT_BOOT, it.scope, RTN_UNICAST],
        flags.to_ne_bytes(),
    ]
    .concat();
    let index = links::index_of(&it.interface)?;
    let mut body = Body::new(&header)
        .with_if(destination.prefix > 0, RTA_DST, &octets(network(destination)))
        .with(RTA_OIF, &index.to_ne_bytes())
        .with_if(it.metric != 0, RTA_PRIORITY, &it.metric.to_ne_bytes());
    if let Some(gateway) = it.gateway {
        body = if gateway.is_ipv4() == destination.address.is_ipv4() {
            body.with(RTA_GATEWAY, &octets(gateway))
        } else {
            // `struct rtvia`: an IPv4 route by way of an IPv6 neighbour.
            body.with(
                RTA_VIA,
                &[&u16::from(family(gateway)).to_ne_bytes(), octets(gateway).as_slice()].concat(),
            )
        };
    }
    if let Some(source) = it.source {
        body = body.with(RTA_PREFSRC, &octets(source));
    }
    if it.mtu != 0 {
        body = body.nest(RTA_METRICS, &Body::new(&[]).with(RTAX_MTU, &it.mtu.to_ne_bytes()));
    }
    Ok(body)
}

/// `struct ndmsg`
fn neighbour(it: &Neighbour) -> io::Result<Body> {
    let index = links::index_of(&it.interface)?;
    let header = [
        [family(it.address), 0, 0, 0].as_slice(),
        &index.to_ne_bytes(),
        &NUD_PERMANENT.to_ne_bytes(),
        &[0, 0],
    ]
    .concat();
    Ok(Body::new(&header)
        .with(NDA_DST, &octets(it.address))
        .with(NDA_LLADDR, &it.mac))
}

/// The kernel refuses a destination that has bits behind its prefix.
fn network(cidr: Cidr) -> IpAddr {
    let prefix = u32::from(cidr.prefix);
    match cidr.address {
        IpAddr::V4(it) => IpAddr::V4((it.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into()),
        IpAddr::V6(it) => IpAddr::V6((it.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into()),
    }
}

fn family(address: IpAddr) -> u8 {
    // AF_INET, AF_INET6
    if address.is_ipv4() { 2 } else { 10 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

fn describe(route: &Route) -> String {
    let gateway = route.gateway.map(|it| format!(" via {it}")).unwrap_or_default();
    format!(
        "route {}/{}{gateway}",
        route.destination.address, route.destination.prefix
    )
}

fn step(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_link_local_address() {
        assert_eq!(
            link_local([0x52, 0x54, 0, 0x12, 0x34, 0x56]).to_string(),
            "fe80::5054:ff:fe12:3456"
        );
    }

    #[test]
    fn adds_a_link_local_address_where_ipv6_needs_one() {
        let interface = |addresses: &[&str]| Interface {
            name: "eth0".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 0,
            addresses: addresses
                .iter()
                .map(|it| Cidr {
                    address: it.parse().unwrap(),
                    prefix: 64,
                })
                .collect(),
            nic: 0,
        };
        assert_eq!(addresses_of(&interface(&["10.0.0.1"])).len(), 1);
        assert_eq!(addresses_of(&interface(&["fd00::1"])).len(), 2);
        assert_eq!(addresses_of(&interface(&["fd00::1", "fe80::7"])).len(), 2);
    }

    #[test]
    fn clears_bits_behind_the_prefix() {
        let masked = |text: &str, prefix| {
            network(Cidr {
                address: text.parse().unwrap(),
                prefix,
            })
            .to_string()
        };
        assert_eq!(masked("10.1.2.3", 24), "10.1.2.0");
        assert_eq!(masked("10.1.2.3", 0), "0.0.0.0");
        assert_eq!(masked("10.1.2.3", 32), "10.1.2.3");
        assert_eq!(masked("fd00::1", 64), "fd00::");
        assert_eq!(masked("fd00::1", 0), "::");
        assert_eq!(masked("fd00::1", 128), "fd00::1");
    }
}
