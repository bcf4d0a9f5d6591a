//! Deleting flows when the kernel fails some of the requests.

use super::*;
use crate::netlink::faults::{Fault, arm, disarm, without};
use crate::space::isolated;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`.
const NEW: u16 = 1 << 8;
/// `CTA_TIMEOUT`.
const TIMEOUT: u16 = 7;
/// `CTA_TUPLE_PROTO`, and `CTA_PROTO_NUM`, `_SRC_PORT` and `_DST_PORT` in it.
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL: [u16; 3] = [1, 2, 3];
const UDP: u8 = 17;

/// Two flows each of three servers, and one of another server. Existing flows stay.
fn fill() {
    let mut socket = Socket::open(NETFILTER).unwrap();
    for (from, server, port) in [
        ("10.0.0.11", "10.0.0.1", 1),
        ("10.0.0.12", "10.0.0.1", 2),
        ("10.0.0.11", "10.0.0.2", 3),
        ("10.0.0.12", "10.0.0.2", 4),
        ("fd00::11", "fd00::3", 5),
        ("fd00::12", "fd00::3", 6),
        ("10.0.0.12", "10.0.0.9", 7),
    ] {
        let [from, server]: [IpAddr; 2] = [from, server].map(|text| text.parse().unwrap());
        let [original, reply] = TUPLES;
        let done = socket.request(NEW, crate::netlink::CREATE, |writer| {
            header(writer, Some(Family::of(from)));
            tuple(writer, original, [(from, port), (server, 80)]);
            tuple(writer, reply, [(server, 80), (from, port)]);
            writer.be32(TIMEOUT, 1000);
        });
        done.unwrap();
    }
}

fn tuple(writer: &mut Writer, kind: u16, ends: [(IpAddr, u16); 2]) {
    writer.nest(kind, |writer| {
        writer.nest(TUPLE_IP, |writer| {
            for (place, (address, _)) in ends.iter().enumerate() {
                match address {
                    IpAddr::V4(ip) => writer.attribute(V4[place], &ip.octets()),
                    IpAddr::V6(ip) => writer.attribute(V6[place], &ip.octets()),
                }
            }
        });
        let [number, source, destination] = PROTOCOL;
        writer.nest(TUPLE_PROTOCOL, |writer| {
            writer.attribute(number, &[UDP]);
            writer.attribute(source, &ends[0].1.to_be_bytes());
            writer.attribute(destination, &ends[1].1.to_be_bytes());
        });
    });
}

fn servers() -> BTreeSet<IpAddr> {
    ["10.0.0.1", "10.0.0.2", "fd00::3"].iter().map(|text| text.parse().unwrap()).collect()
}

/// The servers that still have entries.
fn left() -> BTreeSet<IpAddr> {
    let wanted = Wanted::new(&servers());
    let mut left = BTreeSet::new();
    without(|| {
        let mut socket = Socket::open(NETFILTER).unwrap();
        assert!(socket.dump_once(GET, |writer| header(writer, None), |entry| left.extend(wanted.of(entry))).unwrap());
    });
    left
}

/// System calls needed to delete the servers' flows.
fn calls() -> u64 {
    fill();
    let mut conntrack = Conntrack::open().unwrap();
    arm(&[]);
    assert_eq!(conntrack.forget(&servers()).unwrap().flows, 6);
    disarm().0
}

#[test]
fn an_entry_that_cannot_be_deleted_does_not_keep_the_others() {
    isolated(|| {
        let mut kept = 0;
        for call in 0..calls() {
            fill();
            let mut conntrack = Conntrack::open().unwrap();
            arm(&[(call, Fault::Refused(0, Errno::EBUSY as i32))]);
            let result = conntrack.forget(&servers());
            disarm();
            // A receive call cannot be refused, so it gets another fault.
            let Ok(forgotten) = result else { continue };
            if !forgotten.unfinished.is_empty() {
                kept += 1;
                assert_eq!((forgotten.flows, forgotten.unfinished.len()), (5, 1), "all but one, at {call}");
            }
            assert!(left().is_subset(&forgotten.unfinished), "{forgotten:?}");
            let again = conntrack.forget(&forgotten.unfinished).unwrap();
            assert_eq!(again.unfinished, BTreeSet::new());
            assert_eq!(conntrack.entries().unwrap(), 1, "the other server's");
        }
        assert!(kept >= 6, "each entry was refused once: {kept}");
    });
}

#[test]
fn servers_not_reported_unfinished_have_no_entries() {
    isolated(|| {
        let errnos = [Errno::ENOBUFS, Errno::ENOMEM, Errno::EINTR, Errno::EAGAIN, Errno::EBUSY];
        let fails = errnos.map(|errno| Fault::Fails(errno as i32)).into_iter();
        let faults: Vec<_> = fails.chain([Fault::AnswerLost, Fault::Short]).collect();
        let calls: Vec<_> = (0..calls()).collect();
        // Each dump takes milliseconds, even of an empty table, so each system call gets only two of the faults.
        for (call, fault) in calls.iter().chain(&calls).zip(faults.iter().cycle()) {
            fill();
            let mut conntrack = Conntrack::open().unwrap();
            arm(&[(*call, *fault)]);
            let result = conntrack.forget(&servers());
            assert_eq!(disarm().1, 1);
            if let Ok(forgotten) = result {
                assert!(left().is_subset(&forgotten.unfinished), "{fault:?} at {call}: {forgotten:?}");
            }
            let again = conntrack.forget(&servers()).unwrap();
            assert_eq!((again.unfinished, left()), (BTreeSet::new(), BTreeSet::new()), "{fault:?} at {call}");
        }
    });
}

#[test]
fn a_dump_that_is_never_whole_leaves_all_addresses_unfinished() {
    isolated(|| {
        fill();
        let mut conntrack = Conntrack::open().unwrap();
        let faults: Vec<_> = (0..1000).map(|call| (call, Fault::AnswerLost)).collect();
        arm(&faults);
        let forgotten = conntrack.forget(&servers()).unwrap();
        let (calls, _) = disarm();
        assert_eq!((forgotten.flows, forgotten.unfinished), (0, servers()));
        assert!(calls < 1000, "it ends");
        assert_eq!(conntrack.forget(&servers()).unwrap().flows, 6);
    });
}
