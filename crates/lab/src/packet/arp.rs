//! Announcements a pod makes when it takes an address: gratuitous ARP and unsolicited neighbour advertisement.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::packet::{Ends, Mac, ethernet};

/// The ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// The ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// The ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];

/// A broadcast ARP request by `mac` for its own `address` (RFC 5227 calls it an ARP announcement), as a frame.
pub fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
    message.extend(mac);
    message.extend(address.octets());
    message.extend([0; 6]);
    message.extend(address.octets());
    ethernet(BROADCAST, mac, ETHERTYPE_ARP, &message)
}

/// An unsolicited, overriding neighbour advertisement to all nodes of the link (RFC 4861 section 7.2.6), as a frame.
pub fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut rest = vec![0x20, 0, 0, 0];
    rest.extend(address.octets());
    rest.extend([2, 1]);
    rest.extend(mac);
    let ends = Ends::V6(address, all_nodes);
    let packet = ends.ip(58, 255, &ends.icmp(136, 0, &rest));
    ethernet([0x33, 0x33, 0, 0, 0, 1], mac, ETHERTYPE_IPV6, &packet)
}

/// The link-local address the kernel derives from a MAC address (modified EUI-64, RFC 4291 appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let [high, low] = [[a ^ 2, b], [c, 0xff]].map(u16::from_be_bytes);
    let [mid, last] = [[0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, high, low, mid, last)
}
