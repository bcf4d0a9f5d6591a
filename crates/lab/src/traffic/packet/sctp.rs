//! The part of SCTP (RFC 9260) that a handshake needs.

use crate::traffic::packet::{field_u16, field_u32, put};

/// Chunk type INIT.
pub const INIT: u8 = 1;
/// Chunk type INIT ACK.
pub const INIT_ACK: u8 = 2;
/// Chunk type ABORT.
pub const ABORT: u8 = 6;

/// The value of the state cookie parameter in answers; nothing reads it back.
const COOKIE: [u8; 8] = [0, 7, 0, 8, b'l', b'a', b'b', 0];

/// An SCTP packet with a single chunk, as read from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Verification tag: the receiver's own tag; zero in an INIT.
    pub verification_tag: u32,
    /// Type of the first chunk.
    pub chunk: u8,
    /// Initiate tag of an INIT or INIT ACK, otherwise the bytes in its place, or zero.
    pub initiate_tag: u32,
}

impl Packet {
    /// Reads the start of a packet; `None` when it is too short or its checksum is wrong.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut zeroed = bytes.to_vec();
        put(&mut zeroed, 8, &[0; 4]);
        if bytes.get(8..12)? != crc32c(&zeroed).to_le_bytes() {
            return None;
        }
        Some(Self {
            source_port: field_u16(bytes, 0)?,
            destination_port: field_u16(bytes, 2)?,
            verification_tag: field_u32(bytes, 4)?,
            chunk: *bytes.get(12)?,
            initiate_tag: field_u32(bytes, 16).unwrap_or(0),
        })
    }
}

/// An INIT: opens an association from `source_port` with our tag `tag`. `window` and `tsn` are free for marks (a real
/// window is at least 1,500).
pub fn init(source_port: u16, destination_port: u16, tag: u32, window: u32, tsn: u32) -> Vec<u8> {
    packet(source_port, destination_port, 0, INIT, &setup(tag, window, tsn, &[]))
}

/// A server's INIT ACK to an INIT; `tag` is the server's.
pub fn init_ack(init: &Packet, tag: u32) -> Vec<u8> {
    let body = setup(tag, 65_536, tag, &COOKIE);
    packet(init.destination_port, init.source_port, init.initiate_tag, INIT_ACK, &body)
}

/// The ABORT to an INIT of a server without a listener.
pub fn abort(init: &Packet) -> Vec<u8> {
    packet(init.destination_port, init.source_port, init.initiate_tag, ABORT, &[])
}

/// The common body of INIT and INIT ACK: tag, window, one stream each way, first TSN, parameters.
fn setup(tag: u32, window: u32, tsn: u32, parameters: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + parameters.len());
    body.extend(tag.to_be_bytes());
    body.extend(window.to_be_bytes());
    body.extend([0, 1, 0, 1]);
    body.extend(tsn.to_be_bytes());
    body.extend(parameters);
    body
}

fn packet(source_port: u16, destination_port: u16, verification_tag: u32, chunk: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend(source_port.to_be_bytes());
    bytes.extend(destination_port.to_be_bytes());
    bytes.extend(verification_tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([chunk, 0]);
    bytes.extend(u16::try_from(4 + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(body);
    let sum = crc32c(&bytes);
    // CRC32c is sent least significant byte first (RFC 9260 appendix A).
    put(&mut bytes, 8, &sum.to_le_bytes());
    bytes
}

/// CRC32c (Castagnoli), reflected, as SCTP's checksum.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}
