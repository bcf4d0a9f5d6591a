//! Deleting flows: all of an IP, none of another. Counting them: as `conntrack -L` prints them.
//!
//! Seen to fail when: the server in a dump is the destination of the original tuple; the port is the client's; entries
//! of one family are left out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_dataplane::conntrack::{self, Census, entries};

use crate::space::{isolated, output};

/// Deletes all flows of the IPs; returns how many.
fn forget(addresses: &BTreeSet<IpAddr>) -> Result<usize, palisade_dataplane::Error> {
    let forgotten = conntrack::forget(addresses)?;
    assert_eq!(forgotten.unfinished, BTreeSet::new());
    Ok(forgotten.flows)
}

/// Makes an entry with the conntrack tool: the client, the destination it used, and the server (after translation).
fn flow(protocol: &str, from: &str, to: &str, server: &str, port: u16) {
    let state: &[&str] = if protocol == "tcp" { &["--state", "ESTABLISHED"] } else { &[] };
    let line = format!(
        "-I -p {protocol} -s {from} -d {to} --sport {port} --dport 80 \
         --reply-src {server} --reply-dst {from} --reply-port-src 80 --reply-port-dst {port} --timeout 1000"
    );
    let mut arguments: Vec<_> = line.split_whitespace().collect();
    arguments.extend(state);
    output("conntrack", &arguments, "");
}

/// The entries' source ports, which distinguish them.
fn ports() -> BTreeSet<u16> {
    let families = ["ipv4", "ipv6"].map(|family| output("conntrack", &["-L", "-f", family], ""));
    let lines = families.iter().flat_map(|text| text.lines());
    lines
        .map(|line| {
            let port = line.split_whitespace().find_map(|word| word.strip_prefix("sport=")).expect("a port");
            port.parse().expect("a number")
        })
        .collect()
}

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

/// Entries with the IP in each of the four places, with and without a Service, and others that only look similar.
fn fill() {
    flow("tcp", "10.0.0.1", "10.0.0.2", "10.0.0.2", 1);
    flow("tcp", "10.0.0.2", "10.0.0.1", "10.0.0.1", 2);
    flow("udp", "10.0.0.2", "10.96.0.1", "10.0.0.1", 3);
    flow("udp", "10.0.0.1", "10.96.0.1", "10.0.0.3", 4);
    flow("tcp", "10.0.0.2", "10.96.0.1", "10.0.0.3", 5);
    flow("tcp", "10.0.0.11", "10.0.0.12", "10.0.0.12", 6);
    flow("tcp", "fd00::1", "fd00::2", "fd00::2", 7);
    flow("udp", "fd00::3", "fd00::99", "fd00::1", 8);
    flow("udp", "fd00::2", "fd00::3", "fd00::3", 9);
}

#[test]
fn all_entries_of_an_address_go_and_others_stay() {
    isolated(|| {
        fill();
        assert_eq!(ports(), (1..=9).collect());
        assert_eq!(entries().unwrap(), 9);
        assert_eq!(forget(&BTreeSet::new()).unwrap(), 0);
        assert_eq!(forget(&ips(&["10.0.0.77", "fd00::77"])).unwrap(), 0);
        assert_eq!(ports(), (1..=9).collect(), "no other IP was given");
        assert_eq!(forget(&ips(&["10.0.0.1"])).unwrap(), 4);
        assert_eq!(ports(), [5, 6, 7, 8, 9].into());
        assert_eq!(forget(&ips(&["fd00::1", "10.96.0.1"])).unwrap(), 3);
        assert_eq!(ports(), [6, 9].into());
        assert_eq!(forget(&ips(&["10.0.0.1"])).unwrap(), 0);
    });
}

#[test]
fn many_addresses_at_once_are_found_in_one_dump() {
    isolated(|| {
        fill();
        let mut many: BTreeSet<IpAddr> = (0..100).map(|last| IpAddr::from([10, 1, 0, last])).collect();
        many.extend(ips(&["10.0.0.1", "fd00::1"]));
        assert_eq!(forget(&many).unwrap(), 6);
        assert_eq!(ports(), [5, 6, 9].into());
    });
}

#[test]
fn entries_of_icmp_and_sctp_go_too() {
    isolated(|| {
        let icmp = ["-I", "-p", "icmp", "-s", "10.0.0.1", "-d", "10.0.0.2", "--icmp-type", "8", "--icmp-code", "0"];
        output("conntrack", &[&icmp[..], &["--icmp-id", "7", "--timeout", "1000"]].concat(), "");
        let sctp = ["-I", "-p", "sctp", "-s", "10.0.0.2", "-d", "10.0.0.1", "--sport", "1", "--dport", "2"];
        let state = ["--orig-vtag", "1", "--reply-vtag", "2", "--state", "ESTABLISHED", "--timeout", "1000"];
        output("conntrack", &[&sctp[..], &state].concat(), "");
        assert_eq!(forget(&ips(&["10.0.0.1"])).unwrap(), 2);
        assert_eq!(output("conntrack", &["-L"], ""), "");
    });
}

#[test]
fn the_kernel_and_its_text_have_the_same_flows() {
    isolated(|| {
        fill();
        // A second entry of a flow.
        flow("tcp", "10.0.0.1", "10.0.0.2", "10.0.0.2", 77);
        let census = conntrack::census().unwrap();
        let text = ["ipv4", "ipv6"].map(|family| output("conntrack", &["-L", "-f", family], "")).concat();
        assert_eq!(census, Census::read(text.as_bytes()).unwrap());
        assert_eq!((census.entries, census.flows.len(), census.malformed), (10, 9, 0));
        let found = |client: &str, server: &str, protocol| {
            let flow = |(tracked, count): (&conntrack::Tracked, &usize)| {
                let is_it = (tracked.client.to_string(), tracked.server.to_string(), tracked.protocol)
                    == (client.to_owned(), server.to_owned(), protocol);
                is_it.then_some((tracked.port, *count))
            };
            census.flows.iter().find_map(flow)
        };
        assert_eq!(found("10.0.0.1", "10.0.0.2", 6), Some((Some(80), 2)));
        // Of a Service, the real server.
        assert_eq!(found("10.0.0.1", "10.0.0.3", 17), Some((Some(80), 1)));
        assert_eq!(found("10.0.0.1", "10.96.0.1", 17), None);
        assert_eq!(found("fd00::3", "fd00::1", 17), Some((Some(80), 1)));
    });
}
