//! What there is in a network namespace, as the kernel has it. What a guest is given of it is the daemon's to say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kelyfos_netlink::{Attributes, Body, Netlink, ip, u16_at, u32_at};
use libc::{
    NDA_DST, NDA_LLADDR, NUD_PERMANENT, RTA_DST, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTM_F_CLONED, RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE, RTM_SETLINK,
};
use serde::Serialize;

use crate::error::{Error, Result};

// Length of the header that each kind of message has before its attributes.
pub const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const HOP_HEADER: usize = 8;
const NEIGHBOUR_HEADER: usize = 12;

const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
pub const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
pub const IFLA_LINK: u16 = 5;
const IFLA_LINK_NETNSID: u16 = 37;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_PERMANENT: u32 = 0x80;
const SCOPE_LINK: u8 = 253;

const RTAX_MTU: u16 = 2;
const RT_TABLE_MAIN: u32 = 254;
/// Not configured: a copy that was made for a destination.
const RTNH_F_ONLINK: u32 = 4;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[derive(Debug, Serialize)]
pub struct Network {
    pub links: Vec<Link>,
    /// Of the main tables.
    pub routes: Vec<Route>,
    /// Permanent ones.
    pub neighbours: Vec<Neighbour>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Link {
    #[serde(skip)]
    pub index: u32,
    #[serde(skip)]
    pub other_end: Option<OtherEnd>,
    pub name: String,
    pub mac: String,
    pub mtu: u32,
    pub addresses: Vec<Address>,
}

/// Of a pair of interfaces, in another namespace.
#[derive(Clone, Copy, Debug)]
pub struct OtherEnd {
    pub index: u32,
    /// By which this namespace knows the other.
    pub namespace: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    ip: IpAddr,
    prefix_length: u8,
    scope: u8,
    /// Without a lifetime.
    permanent: bool,
    /// Of IPv6: made up for privacy. Of IPv4: not the first of its subnet.
    secondary: bool,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    destination: IpAddr,
    prefix_length: u8,
    /// RTN_UNICAST and others.
    kind: u8,
    /// RTPROT_KERNEL and others.
    protocol: u8,
    scope: u8,
    source: Option<IpAddr>,
    metric: u32,
    /// 0: that of the interface.
    mtu: u32,
    /// Several of a multipath route, none of one that leads nowhere.
    hops: Vec<Hop>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Hop {
    gateway: Option<IpAddr>,
    interface: String,
    onlink: bool,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Neighbour {
    ip: IpAddr,
    mac: String,
    interface: String,
}

impl Link {
    /// Beyond its own link.
    pub fn speaks_ipv6(&self) -> bool {
        self.addresses
            .iter()
            .any(|it| it.ip.is_ipv6() && it.scope != SCOPE_LINK)
    }
}

type Names = BTreeMap<u32, String>;

/// Interfaces with their addresses.
pub fn links(netlink: &mut Netlink) -> Result<Vec<Link>> {
    let all = netlink
        .dump(RTM_GETLINK, &[0; LINK_HEADER])
        .map_err(Error::during("read interfaces"))?;
    let mut links: Vec<Link> = all.iter().filter_map(|message| link(message)).collect();
    let all = netlink
        .dump(RTM_GETADDR, &[0; ADDRESS_HEADER])
        .map_err(Error::during("read addresses"))?;
    for (index, address) in all.iter().filter_map(|message| address(message)) {
        if let Some(link) = links.iter_mut().find(|link| link.index == index) {
            link.addresses.push(address);
        }
    }
    Ok(links)
}

pub fn around(links: Vec<Link>, netlink: &mut Netlink) -> Result<Network> {
    let names: Names = links.iter().map(|link| (link.index, link.name.clone())).collect();
    let routes = netlink
        .dump(RTM_GETROUTE, &[0; ROUTE_HEADER])
        .map_err(Error::during("read routes"))?;
    let neighbours = netlink
        .dump(RTM_GETNEIGH, &[0; NEIGHBOUR_HEADER])
        .map_err(Error::during("read neighbours"))?;
    Ok(Network {
        routes: routes.iter().filter_map(|message| route(message, &names)).collect(),
        neighbours: neighbours
            .iter()
            .filter_map(|message| neighbour(message, &names))
            .collect(),
        links,
    })
}

pub fn set_mtu(link: &Link, mtu: u32, netlink: &mut Netlink) -> Result<()> {
    let body = Body::new(&link_header(link, 0)).with(IFLA_MTU, &mtu.to_ne_bytes());
    netlink
        .request(RTM_SETLINK, 0, body.bytes())
        .map_err(Error::during(format!("set the MTU of {}", link.name)))
}

pub fn set_up(link: &Link, netlink: &mut Netlink) -> Result<()> {
    netlink
        .request(RTM_SETLINK, 0, &link_header(link, IFF_UP))
        .map_err(Error::during(format!("set {} up", link.name)))
}

/// With flags that are to be set.
fn link_header(link: &Link, flags: u32) -> Vec<u8> {
    [0, link.index, flags, flags].map(u32::to_ne_bytes).concat()
}

fn link(message: &[u8]) -> Option<Link> {
    let attributes = Attributes::after(message, LINK_HEADER);
    Some(Link {
        index: u32_at(message, 4)?,
        other_end: attributes
            .u32(IFLA_LINK)
            .zip(attributes.u32(IFLA_LINK_NETNSID))
            .map(|(index, namespace)| OtherEnd { index, namespace }),
        name: attributes.name(IFLA_IFNAME)?,
        mac: attributes.mac(IFLA_ADDRESS).unwrap_or_default(),
        mtu: attributes.u32(IFLA_MTU)?,
        addresses: Vec::new(),
    })
}

/// With the index of its interface.
fn address(message: &[u8]) -> Option<(u32, Address)> {
    let [_family, prefix_length, flags, scope] = *message.first_chunk()?;
    let attributes = Attributes::after(message, ADDRESS_HEADER);
    let flags = attributes.u32(IFA_FLAGS).unwrap_or(u32::from(flags));
    let address = Address {
        // Of a point-to-point link the other address is that of the peer.
        ip: attributes.ip(IFA_LOCAL).or_else(|| attributes.ip(IFA_ADDRESS))?,
        prefix_length,
        scope,
        permanent: flags & IFA_F_PERMANENT != 0,
        secondary: flags & IFA_F_TEMPORARY != 0,
    };
    Some((u32_at(message, 4)?, address))
}

fn route(message: &[u8], names: &Names) -> Option<Route> {
    let [family, prefix_length, _source, _tos, table, protocol, scope, kind] = *message.first_chunk()?;
    let flags = u32_at(message, 8)?;
    let attributes = Attributes::after(message, ROUTE_HEADER);
    let anywhere = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    if attributes.u32(RTA_TABLE).unwrap_or(u32::from(table)) != RT_TABLE_MAIN || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let metrics = attributes.get(RTA_METRICS).map(Attributes::new);
    Some(Route {
        destination: attributes.ip(RTA_DST).unwrap_or(anywhere),
        prefix_length,
        kind,
        protocol,
        scope,
        source: attributes.ip(RTA_PREFSRC),
        metric: attributes.u32(RTA_PRIORITY).unwrap_or(0),
        mtu: metrics.and_then(|metrics| metrics.u32(RTAX_MTU)).unwrap_or(0),
        hops: match attributes.get(RTA_MULTIPATH) {
            Some(several) => hops(several, names),
            None => attributes
                .u32(RTA_OIF)
                .and_then(|index| hop(index, flags, attributes, names))
                .into_iter()
                .collect(),
        },
    })
}

fn hops(mut bytes: &[u8], names: &Names) -> Vec<Hop> {
    let mut all = Vec::new();
    while let (Some(length), Some(index)) = (u16_at(bytes, 0).map(usize::from), u32_at(bytes, 4)) {
        let Some(one) = bytes.get(..length) else { break };
        let flags = u32::from(one.get(2).copied().unwrap_or(0));
        all.extend(hop(index, flags, Attributes::after(one, HOP_HEADER), names));
        bytes = bytes
            .get(length.max(HOP_HEADER).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    all
}

fn hop(index: u32, flags: u32, attributes: Attributes, names: &Names) -> Option<Hop> {
    Some(Hop {
        // RTA_VIA: two bytes of family before an address of another one than the route's.
        gateway: attributes
            .ip(RTA_GATEWAY)
            .or_else(|| ip(attributes.get(RTA_VIA)?.get(2..)?)),
        interface: names.get(&index)?.clone(),
        onlink: flags & RTNH_F_ONLINK != 0,
    })
}

fn neighbour(message: &[u8], names: &Names) -> Option<Neighbour> {
    if u16_at(message, 8)? & NUD_PERMANENT == 0 {
        return None;
    }
    let attributes = Attributes::after(message, NEIGHBOUR_HEADER);
    Some(Neighbour {
        ip: attributes.ip(NDA_DST)?,
        mac: attributes.mac(NDA_LLADDR)?,
        interface: names.get(&u32_at(message, 4)?)?.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::from([(2, "eth0".into()), (3, "eth1".into())])
    }

    fn header(family: u8, prefix_length: u8, table: u8) -> [u8; ROUTE_HEADER] {
        [family, prefix_length, 0, 0, table, 3, 0, 1, 0, 0, 0, 0]
    }

    #[test]
    fn takes_the_first_table_and_families_it_knows() {
        let body = |family, table| Body::new(&header(family, 0, table)).with(RTA_OIF, &2u32.to_ne_bytes());
        assert!(route(body(AF_INET, 254).bytes(), &names()).is_some());
        assert!(route(body(AF_INET, 255).bytes(), &names()).is_none());
        assert!(route(body(28, 254).bytes(), &names()).is_none());
        // Tables beyond 255 are named by an attribute alone.
        let far = body(AF_INET, 252).with(RTA_TABLE, &300u32.to_ne_bytes());
        assert!(route(far.bytes(), &names()).is_none());
    }

    #[test]
    fn reads_the_hops_of_a_multipath_route() {
        let hop = |index: u32, flags: u8, attributes: &Body| {
            let length = u16::try_from(HOP_HEADER + attributes.bytes().len()).unwrap();
            [
                &length.to_ne_bytes()[..],
                &[flags, 0],
                &index.to_ne_bytes(),
                attributes.bytes(),
            ]
            .concat()
        };
        let via6 = [&[10, 0][..], &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
        let several = [
            hop(2, 0, &Body::new(&[]).with(RTA_GATEWAY, &[10, 1, 0, 1])),
            hop(3, 4, &Body::new(&[]).with(RTA_VIA, &via6)),
            hop(9, 0, &Body::new(&[])),
        ];
        let body = Body::new(&header(AF_INET, 16, 254))
            .with(RTA_DST, &[10, 78, 0, 0])
            .with(RTA_MULTIPATH, &several.concat());
        let read = route(body.bytes(), &names()).unwrap();
        assert_eq!(
            (read.destination.to_string().as_str(), read.prefix_length),
            ("10.78.0.0", 16)
        );
        let shown: Vec<_> = read
            .hops
            .iter()
            .map(|hop| (hop.gateway, hop.interface.as_str(), hop.onlink))
            .collect();
        assert_eq!(
            shown,
            [
                (Some("10.1.0.1".parse().unwrap()), "eth0", false),
                (Some("fd00::1".parse().unwrap()), "eth1", true),
            ]
        );
    }

    #[test]
    fn takes_the_flags_that_do_not_fit_into_the_header() {
        let body = Body::new(&[AF_INET6, 64, 0, 0, 2, 0, 0, 0])
            .with(IFA_ADDRESS, &[0xfd; 16])
            .with(IFA_FLAGS, &0x81u32.to_ne_bytes());
        let (index, read) = address(body.bytes()).unwrap();
        assert_eq!((index, read.permanent, read.secondary), (2, true, true));
    }
}
