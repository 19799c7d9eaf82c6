//! The network part of a `ConfigureSandbox` request, checked and typed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::proto;

/// Names the field that is wrong.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{field}: {value:?} is not {expected}")]
pub struct Invalid {
    pub field: String,
    pub value: String,
    pub expected: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

pub type Mac = [u8; 6];

#[derive(Debug)]
pub struct Interface {
    pub name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub addresses: Vec<Cidr>,
    pub nic: u32,
}

#[derive(Debug)]
pub struct Route {
    pub destination: Cidr,
    pub gateway: Option<IpAddr>,
    pub interface: String,
    pub source: Option<IpAddr>,
    pub scope: u8,
    pub metric: u32,
    pub onlink: bool,
    pub mtu: u32,
}

#[derive(Debug)]
pub struct Neighbour {
    pub address: IpAddr,
    pub mac: Mac,
    pub interface: String,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub interfaces: Vec<Interface>,
    /// In an order in which the kernel accepts them.
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
}

impl Plan {
    pub fn new(request: &proto::ConfigureSandboxRequest) -> Result<Self, Invalid> {
        let mut plan = Self::default();
        for (index, it) in request.interfaces.iter().enumerate() {
            plan.interfaces.push(interface(it, &format!("interfaces[{index}]"))?);
        }
        for (index, it) in request.routes.iter().enumerate() {
            plan.routes.push(route(it, &format!("routes[{index}]"))?);
        }
        for (index, it) in request.neighbours.iter().enumerate() {
            let field = format!("neighbours[{index}]");
            plan.neighbours.push(Neighbour {
                address: address(&it.address, &format!("{field}.address"))?,
                mac: mac(&it.mac, &format!("{field}.mac"))?,
                interface: interface_name(&it.interface, &format!("{field}.interface"))?,
            });
        }
        // A gateway must be reachable by a route that is there already: on-link ones come first.
        plan.routes
            .sort_by_key(|it| (it.gateway.is_some(), std::cmp::Reverse(it.destination.prefix)));
        Ok(plan)
    }

    /// Addresses of the pod, in the order of the request, without link-local ones.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all = self.interfaces.iter().flat_map(|it| &it.addresses).map(|it| it.address);
        all.filter(|it| !is_link_local(it)).collect()
    }
}

pub fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn interface(it: &proto::Interface, field: &str) -> Result<Interface, Invalid> {
    let mut addresses = Vec::new();
    for text in &it.addresses {
        addresses.push(cidr(text, &format!("{field}.addresses"))?);
    }
    Ok(Interface {
        name: interface_name(&it.name, &format!("{field}.name"))?,
        mac: optional(&it.mac, |text| mac(text, &format!("{field}.mac")))?,
        mtu: it.mtu,
        addresses,
        nic: it.nic,
    })
}

fn route(it: &proto::Route, field: &str) -> Result<Route, Invalid> {
    let scope_field = format!("{field}.scope");
    Ok(Route {
        destination: cidr(&it.destination, &format!("{field}.destination"))?,
        gateway: optional(&it.gateway, |text| address(text, &format!("{field}.gateway")))?,
        interface: interface_name(&it.interface, &format!("{field}.interface"))?,
        source: optional(&it.source, |text| address(text, &format!("{field}.source")))?,
        scope: u8::try_from(it.scope).map_err(|_| invalid(&scope_field, &it.scope.to_string(), "a route scope"))?,
        metric: it.metric,
        onlink: it.onlink,
        mtu: it.mtu,
    })
}

fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Result<Option<T>, Invalid> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

fn invalid(field: &str, value: &str, expected: &'static str) -> Invalid {
    Invalid {
        field: field.to_owned(),
        value: value.chars().take(80).collect(),
        expected,
    }
}

/// What the kernel takes as a name, and nothing that is special in a path.
fn interface_name(text: &str, field: &str) -> Result<String, Invalid> {
    let good = (1..=15).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_graphic() && !b"/:%".contains(&it))
        && text != "."
        && text != ".."
        && text != "all"
        && text != "default";
    if good {
        Ok(text.to_owned())
    } else {
        Err(invalid(field, text, "the name of an interface"))
    }
}

fn address(text: &str, field: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| invalid(field, text, "an IP address"))
}

fn cidr(text: &str, field: &str) -> Result<Cidr, Invalid> {
    let parse = || {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let most = if address.is_ipv4() {
            Ipv4Addr::BITS
        } else {
            Ipv6Addr::BITS
        };
        (u32::from(prefix) <= most).then_some(Cidr { address, prefix })
    };
    parse().ok_or_else(|| invalid(field, text, "an address with prefix length"))
}

fn mac(text: &str, field: &str) -> Result<Mac, Invalid> {
    let parse = || {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|it| it.len() == 2 && it.bytes().all(|it| it.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        // A group address cannot belong to an interface.
        (parts.next().is_none() && bytes[0] & 1 == 0).then_some(bytes)
    };
    parse().ok_or_else(|| invalid(field, text, "a MAC address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_addresses() {
        assert_eq!(
            cidr("10.1.2.3/24", "f"),
            Ok(Cidr {
                address: "10.1.2.3".parse().unwrap(),
                prefix: 24
            })
        );
        assert_eq!(cidr("fd00::1/128", "f").unwrap().prefix, 128);
        for bad in [
            "",
            "10.1.2.3",
            "10.1.2.3/33",
            "fd00::/129",
            "x/1",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "/",
        ] {
            assert!(cidr(bad, "f").is_err(), "{bad}");
        }
    }

    #[test]
    fn parses_macs() {
        assert_eq!(mac("02:00:0a:FF:00:01", "f"), Ok([2, 0, 10, 255, 0, 1]));
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "01:00:00:00:00:00",
            "2:0:0:0:0:0",
            "+2:00:00:00:00:00",
        ] {
            assert!(mac(bad, "f").is_err(), "{bad}");
        }
    }

    #[test]
    fn checks_interface_names() {
        assert!(interface_name("eth0", "f").is_ok());
        for bad in [
            "",
            "a-name-too-long-for-it",
            "a/b",
            "..",
            ".",
            "a b",
            "all",
            "eth0:1",
            "é",
        ] {
            assert!(interface_name(bad, "f").is_err(), "{bad}");
        }
    }

    #[test]
    fn puts_routes_in_a_workable_order() {
        let route = |destination: &str, gateway: &str| proto::Route {
            destination: destination.to_owned(),
            gateway: gateway.to_owned(),
            interface: "eth0".to_owned(),
            ..Default::default()
        };
        let routes = vec![
            route("0.0.0.0/0", "10.0.0.1"),
            route("10.0.0.0/24", ""),
            route("10.0.0.1/32", ""),
        ];
        let plan = Plan::new(&proto::ConfigureSandboxRequest {
            routes,
            ..Default::default()
        })
        .unwrap();
        let prefixes: Vec<_> = plan.routes.iter().map(|it| it.destination.prefix).collect();
        assert_eq!(prefixes, [32, 24, 0]);
    }

    #[test]
    fn names_the_wrong_field() {
        let routes = vec![proto::Route {
            destination: "nowhere".to_owned(),
            ..Default::default()
        }];
        let error = Plan::new(&proto::ConfigureSandboxRequest {
            routes,
            ..Default::default()
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "routes[0].destination: \"nowhere\" is not an address with prefix length"
        );
    }
}
