//! Announcements by a pod that takes an address: gratuitous ARP and unsolicited neighbour advertisement.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::traffic::packet::{Ends, Mac, ethernet};

/// The ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// The ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// The ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// All stations on the link.
pub const BROADCAST: Mac = Mac([0xff; 6]);

/// A broadcast ARP request by `mac` for its own `address` (RFC 5227 calls it an ARP announcement), as a frame.
pub fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
    message.extend(mac.0);
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
    rest.extend(mac.0);
    let ends = Ends::V6(address, all_nodes);
    let packet = ends.ip(58, 255, &ends.icmp(136, 0, &rest));
    ethernet(Mac([0x33, 0x33, 0, 0, 0, 1]), mac, ETHERTYPE_IPV6, &packet)
}

/// The link-local address the kernel derives from a MAC address (modified EUI-64, RFC 4291 appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [first, second, third, rest @ ..] = mac.0;
    let [fourth, fifth, sixth] = rest;
    let words = [[first ^ 2, second], [third, 0xff], [0xfe, fourth], [fifth, sixth]].map(u16::from_be_bytes);
    let [w4, w5, w6, w7] = words;
    Ipv6Addr::new(0xfe80, 0, 0, 0, w4, w5, w6, w7)
}
