//! Known answers: examples from the RFCs, and checksums verified by summing to zero.

use super::*;

#[test]
fn crc32c_known_answers() {
    // RFC 3720 appendix B.4.
    assert_eq!(sctp::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(sctp::crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(sctp::crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn internet_checksum_known_answer() {
    // RFC 1071 section 3.
    assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    assert_eq!(checksum(&[&[0xff]]), !0xff00);
}

#[test]
fn ipv4_header_sums_to_zero() {
    let ends = Ends::V4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let packet = ends.packet(Protocol::Udp, &ends.udp(1000, 53, b"abc"));
    assert_eq!(packet.len(), 31);
    assert_eq!(checksum(&[&packet[..20]]), 0);
    let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 11];
    assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
}

#[test]
fn ipv6_segments_sum_to_zero() {
    let (a, b): (Ipv6Addr, Ipv6Addr) = ("fd42:1::2".parse().unwrap(), "fd42:1::3".parse().unwrap());
    let ends = Ends::V6(a, b);
    for (protocol, segment) in [
        (6, ends.tcp(&Tcp { source_port: 1, flags: tcp_flag::SYN, ..Tcp::default() }, b"")),
        (17, ends.udp(1, 2, b"odd")),
        (58, ends.echo_request(7, 8, b"x")),
    ] {
        let size = u8::try_from(segment.len()).unwrap();
        assert_eq!(checksum(&[&a.octets(), &b.octets(), &[0, size, 0, protocol], &segment]), 0);
    }
}

#[test]
fn sctp_init_round_trip() {
    let init = sctp::init(40_000, 9000, 0x1234_5678, 70_000, 5);
    assert_eq!(init.len(), 32);
    let parsed = sctp::Packet::parse(&init).unwrap();
    assert_eq!((parsed.source_port, parsed.destination_port), (40_000, 9000));
    assert_eq!((parsed.chunk, parsed.verification_tag, parsed.initiate_tag), (sctp::INIT, 0, 0x1234_5678));
    let answer = sctp::Packet::parse(&sctp::init_ack(&parsed, 9)).unwrap();
    assert_eq!((answer.source_port, answer.verification_tag), (9000, 0x1234_5678));
    let mut broken = init;
    broken[20] ^= 1;
    assert_eq!(sctp::Packet::parse(&broken), None);
}

#[test]
fn link_local_of_a_mac() {
    // RFC 4291 appendix A: 34-56-78-9A-BC-DE is 3656:78ff:fe9a:bcde.
    let address = arp::link_local(Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
    assert_eq!(address.to_string(), "fe80::3656:78ff:fe9a:bcde");
}
