//! Packets as bytes: what raw sockets send, with correct lengths and checksums.
//!
//! Sources: RFC 791, 8200 (IP), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP), 9260 (SCTP), 826 (ARP), 4861 (neighbour
//! discovery).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};
use crate::traffic::flow::Protocol;

pub mod arp;
pub mod sctp;

/// A hardware (MAC) address. Shown as `02:42:01:00:00:07`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if position == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// Hop limit of routable packets.
pub const HOP_LIMIT: u8 = 64;

/// TCP flag bits (RFC 9293 section 3.1).
pub mod tcp_flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Resets a connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// Source and destination of a packet, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// IPv4: source, destination.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6: source, destination.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    /// Joins two addresses.
    ///
    /// # Errors
    /// [`Error::FamilyMismatch`] when one is IPv4 and the other IPv6.
    pub fn new(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Result<Self> {
        match (source.into(), destination.into()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ok(Self::V4(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Ok(Self::V6(source, destination)),
            (source_address, destination) => Err(Error::FamilyMismatch { source_address, destination }),
        }
    }

    /// The same two addresses in the other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::V4(source, destination) => Self::V4(destination, source),
            Self::V6(source, destination) => Self::V6(destination, source),
        }
    }

    /// The source.
    pub fn source(self) -> IpAddr {
        match self {
            Self::V4(source, _) => source.into(),
            Self::V6(source, _) => source.into(),
        }
    }

    /// The destination.
    pub fn destination(self) -> IpAddr {
        match self {
            Self::V4(_, destination) => destination.into(),
            Self::V6(_, destination) => destination.into(),
        }
    }

    /// Puts an IP header of protocol number `protocol` before the payload.
    pub fn ip(self, protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(40 + payload.len());
        match self {
            Self::V4(source, destination) => {
                packet.extend([0x45, 0]);
                packet.extend(length(20 + payload.len()).to_be_bytes());
                packet.extend([0, 0, 0, 0, hop_limit, protocol, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                let sum = checksum(&[&packet]);
                put(&mut packet, 10, &sum.to_be_bytes());
            }
            Self::V6(source, destination) => {
                packet.extend([0x60, 0, 0, 0]);
                packet.extend(length(payload.len()).to_be_bytes());
                packet.extend([protocol, hop_limit]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
            }
        }
        packet.extend(payload);
        packet
    }

    /// The Internet checksum of a segment over the pseudo header of these ends.
    fn segment_checksum(self, protocol: u8, segment: &[u8]) -> u16 {
        let tail = [0, protocol];
        let size = length(segment.len()).to_be_bytes();
        match self {
            Self::V4(source, destination) => {
                checksum(&[&source.octets(), &destination.octets(), &tail, &size, segment])
            }
            Self::V6(source, destination) => {
                checksum(&[&source.octets(), &destination.octets(), &size, &tail, segment])
            }
        }
    }

    /// A TCP segment without options, with its checksum.
    pub fn tcp(self, tcp: &Tcp, payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(tcp.source_port.to_be_bytes());
        segment.extend(tcp.destination_port.to_be_bytes());
        segment.extend(tcp.sequence.to_be_bytes());
        segment.extend(tcp.acknowledgement.to_be_bytes());
        segment.extend([5 << 4, tcp.flags]);
        segment.extend(64_240_u16.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(payload);
        let sum = self.segment_checksum(6, &segment);
        put(&mut segment, 16, &sum.to_be_bytes());
        segment
    }

    /// A UDP datagram with its checksum.
    pub fn udp(self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(8 + payload.len());
        datagram.extend(source_port.to_be_bytes());
        datagram.extend(destination_port.to_be_bytes());
        datagram.extend(length(8 + payload.len()).to_be_bytes());
        datagram.extend([0; 2]);
        datagram.extend(payload);
        // A sum of zero is sent as all ones: zero means "no checksum" (RFC 768).
        let sum = match self.segment_checksum(17, &datagram) {
            0 => u16::MAX,
            sum => sum,
        };
        put(&mut datagram, 6, &sum.to_be_bytes());
        datagram
    }

    /// An ICMP or ICMPv6 message of any type with its checksum. `rest` is everything after the checksum field.
    pub fn icmp(self, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(rest);
        let sum = match self {
            Self::V4(..) => checksum(&[&message]),
            Self::V6(..) => self.segment_checksum(58, &message),
        };
        put(&mut message, 2, &sum.to_be_bytes());
        message
    }

    /// An echo request of this family.
    pub fn echo_request(self, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let mut rest = Vec::with_capacity(4 + payload.len());
        rest.extend(identifier.to_be_bytes());
        rest.extend(sequence.to_be_bytes());
        rest.extend(payload);
        self.icmp(echo_request_type(self.destination()), 0, &rest)
    }

    /// A whole packet: IP header with an ordinary hop limit, then the segment.
    pub fn packet(self, protocol: Protocol, segment: &[u8]) -> Vec<u8> {
        self.ip(protocol.number(self.destination()), HOP_LIMIT, segment)
    }
}

/// The fields of a TCP header that tests choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags, from [`tcp_flag`].
    pub flags: u8,
}

/// Marks a packet as a shot ([`crate::Lab::shoot`]); a value that does not occur by chance. Echo servers do not answer
/// it: the echo would look like another shot.
pub(crate) const SHOT_MARK: u32 = 0x5ba1_15ad;

/// The ICMP type of an echo request in the family of `address`.
pub(crate) fn echo_request_type(address: IpAddr) -> u8 {
    if address.is_ipv4() { 8 } else { 128 }
}

/// The ICMP type of an echo reply in the family of `address`.
pub(crate) fn echo_reply_type(address: IpAddr) -> u8 {
    if address.is_ipv4() { 0 } else { 129 }
}

/// An Ethernet frame. The device adds the checksum at its end.
pub fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The Internet checksum (RFC 1071) over the concatenated parts. Every part except the last must have an even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    });
    let mut sum: u64 = words.map(u64::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// A length field. Packets here are far below its limit; the socket would truncate a longer one anyway.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Overwrites bytes at an offset; bytes outside are ignored.
pub(crate) fn put(packet: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = packet.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// A big-endian 32-bit field.
pub(crate) fn field_u32(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}

/// A big-endian 16-bit field.
pub(crate) fn field_u16(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

/// The payload after the IPv4 header that raw sockets deliver.
pub(crate) fn skip_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

#[cfg(test)]
mod tests;
