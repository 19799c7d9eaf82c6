use std::io;
use std::path::PathBuf;

use kelyfos_netlink::{Body, NLM_F_CREATE, NLM_F_EXCL, Netlink};
use libc::{RTM_NEWQDISC, RTM_NEWTFILTER, TCA_KIND, TCA_OPTIONS};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::namespace;
use crate::network::{Link, Network, around, links, set_mtu};
use crate::outer_end;

/// Where an ingress qdisc is, and its handle.
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// What an interface receives, with an ingress qdisc and with clsact.
const TC_H_MIN_INGRESS: u32 = 0xffff_fff2;
/// Preference 1, and ETH_P_ALL in network order.
const FIRST_FOR_ALL: u32 = 1 << 16 | (0x0003_u16.to_be() as u32);
/// 800::1, the first of the table that there always is.
const FILTER_HANDLE: u32 = 0x8000_0001;

const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;

#[derive(Debug, Deserialize)]
pub struct Join {
    namespace: PathBuf,
    /// Made by plugins.
    interface: String,
    tap: String,
}

/// Connects interface and tap, frame by frame in both directions: what one receives leaves by the other. Unlike a
/// bridge this learns no addresses and costs one hook; unlike macvtap it works with any kind of interface that a plugin
/// may have made. Tells what there is in the namespace.
///
/// u32 that matches everything, and not matchall: small kernels lack that classifier. Put in the place of what is there
/// under a fixed handle: after a retry of ADD, with a new interface, the tap's filter points at that one.
///
/// Offloads need nothing turned off. The redirected packet is transmitted by the other device in the ordinary way, which
/// completes checksums and cuts up segments exactly when that device cannot: into the tap they pass as they are if
/// the guest has accepted offloads (virtio-net header), out of a veth always.
pub fn join(order: &Join) -> Result<Network> {
    let outside = namespace::enter(&order.namespace)?;
    let mut netlink = Netlink::open().map_err(Error::during("open rtnetlink"))?;
    let links = links(&mut netlink)?;
    let find = |name: &str| {
        links
            .iter()
            .find(|link| link.name == name)
            .ok_or(Error::NoInterface(name.to_owned()))
    };
    let (interface, tap) = (find(&order.interface)?, find(&order.tap)?);
    receive_in_tc(interface, &mut netlink)?;
    receive_in_tc(tap, &mut netlink)?;
    redirect(interface, tap, &mut netlink)?;
    redirect(tap, interface, &mut netlink)?;
    // Frames of the pod's MTU must fit through the tap.
    if tap.mtu != interface.mtu {
        set_mtu(tap, interface.mtu, &mut netlink)?;
    }
    let interface = interface.clone();
    let network = around(links, &mut netlink)?;
    if !interface.speaks_ipv6() {
        // What its stack says about multicast groups would reach, and wake, the guests of all other pods.
        namespace::set(&format!("net/ipv6/conf/{}/disable_ipv6", interface.name), "1")?;
    }
    outer_end::silence(&interface, &mut netlink, &outside)?;
    Ok(network)
}

fn receive_in_tc(link: &Link, netlink: &mut Netlink) -> Result<()> {
    let body = tc(link, INGRESS_HANDLE, TC_H_INGRESS, 0).with_name(TCA_KIND, "ingress");
    match netlink.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body.bytes()) {
        // There already, or a plugin has put a clsact qdisc there, which serves as well and must stay.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(Error::during(format!("add an ingress qdisc to {}", link.name))),
    }
}

fn redirect(from: &Link, to: &Link, netlink: &mut Netlink) -> Result<()> {
    let body = tc(from, FILTER_HANDLE, TC_H_MIN_INGRESS, FIRST_FOR_ALL)
        .with_name(TCA_KIND, "u32")
        .nest(TCA_OPTIONS, &everything_to(to));
    netlink
        .request(RTM_NEWTFILTER, NLM_F_CREATE, body.bytes())
        .map_err(Error::during(format!("redirect {} to {}", from.name, to.name)))
}

fn everything_to(link: &Link) -> Body {
    // struct tc_u32_sel with one key that leaves out every bit.
    let mut selector = [0; 32];
    selector[0] = TC_U32_TERMINAL;
    selector[2] = 1;
    // struct tc_mirred: index, capabilities, what becomes of the packet here, two counts, what is done, interface.
    let mirred = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, link.index]
        .map(u32::to_ne_bytes)
        .concat();
    let action = Body::new(&[])
        .with_name(TCA_ACT_KIND, "mirred")
        .nest(TCA_ACT_OPTIONS, &Body::new(&[]).with(TCA_MIRRED_PARMS, &mirred));
    Body::new(&[])
        // The first of the actions.
        .nest(TCA_U32_ACT, &Body::new(&[]).nest(1, &action))
        .with(TCA_U32_SEL, &selector)
}

/// A message with struct tcmsg.
fn tc(link: &Link, handle: u32, parent: u32, info: u32) -> Body {
    Body::new(&[0, link.index, handle, parent, info].map(u32::to_ne_bytes).concat())
}
