//! The lab's address plan, the same in every lab: namespaces keep labs apart, not addresses.
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | fabric (default gateway of the nodes) | 172.30.0.1/24 | fd00:30::1/64 |
//! | node *n* (from 1) | 172.30.0.(10+n) | fd00:30::(10+n) |
//! | host *k* (from 0) | 172.30.0.(200+k) | fd00:30::(200+k) |
//! | pods of node *n* | 10.42.n.0/24, gateway .1 | fd42:n::/64, gateway ::1 |
//! | Services (by custom) | 10.96.0.0/16 | fd96::/112 |
//!
//! Numbers in IPv6 addresses are written in hexadecimal there: node 1 is `fd00:30::b`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The largest node number.
pub(crate) const MAX_NODES: u8 = 100;
/// The first host's number on the fabric.
pub(crate) const FIRST_HOST: u8 = 200;
/// The fabric's own number.
pub(crate) const FABRIC: u8 = 1;

/// An address on the fabric.
pub(crate) fn fabric4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, number)
}

/// An address on the fabric.
pub(crate) fn fabric6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, number.into())
}

/// The number of node `node` on the fabric.
pub(crate) fn node_number(node: u8) -> u8 {
    10 + node
}

/// Host `host` of the pod range of node `node`; host 0 is the range's base, host 1 the gateway.
pub(crate) fn pod4(node: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, node, host)
}

/// Host `host` of the pod range of node `node`.
pub(crate) fn pod6(node: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd42, node.into(), 0, 0, 0, 0, 0, host.into())
}

/// The link-local gateway of pods of a routed node.
pub(crate) const ROUTED_GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link-local gateway of pods of a routed node.
pub(crate) const ROUTED_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
