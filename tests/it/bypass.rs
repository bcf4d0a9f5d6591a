//! Packets that could bypass rules on pod IPs are dropped, and packets that must pass do. Every test has its control:
//! the same packets without isolation, with the policy removed or without the step that closes the bypass.
//!
//! Seen to fail when: no link-local, broadcast and multicast packets are dropped; router messages pass; neighbour
//! discovery is dropped, or passes with any hop limit; ICMP or ICMPv6 errors of known flows are not accepted first;
//! packets without a flow are not checked; a stream picked up in the middle is not; flows are not deleted (the test
//! does that itself).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::common::driven::Driven;
use crate::common::objects::{block, egress, ingress, key, namespace, pod, pods, policy, port, rule};
use palisade_lab::packet::{Ends, Mac, Tcp, arp, ethernet, tcp_flag};
use palisade_lab::{Flow, Lab, Layout, Listen, Pod, PodSpec, Protocol as LabProtocol, Sink, Stream, probe};
use palisade_policy::input::{Change, Policy, Protocol};

const LIMIT: Duration = Duration::from_secs(10);

/// A node with a bridge, a client and a server on it, and the enforced policies.
struct Bed {
    lab: Lab,
    client: Pod,
    server: Pod,
    enforcer: Driven,
}

impl Bed {
    fn new() -> Self {
        let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
        let [client, server] = ["default/client", "default/server"].map(|name| lab.node(1).add_pod(name).unwrap());
        let mut enforcer = Driven::start(lab.node(1));
        enforcer.apply([
            Change::Namespace(namespace("default", &[])),
            Change::Pod(pod("default/client", "node-1", &[("app", "client")], &client.addresses())),
            Change::Pod(pod("default/server", "node-1", &[("app", "server")], &server.addresses())),
        ]);
        Self { lab, client, server, enforcer }
    }

    fn put(&mut self, policy: Policy) {
        self.enforcer.apply([Change::Policy(policy)]);
    }

    fn withdraw(&mut self, name: &str) {
        self.enforcer.apply([Change::PolicyGone(key(name))]);
    }

    /// The frames of the client that the server's interface receives.
    fn heard(&self, frames: &[(&'static str, Vec<u8>)]) -> BTreeSet<&'static str> {
        heard(&self.client, &self.server, frames)
    }

    fn ends(&self) -> [Ends; 2] {
        let (client, server) = (&self.client, &self.server);
        [
            Ends::V4(client.ipv4().unwrap(), server.ipv4().unwrap()),
            Ends::V6(client.ipv6().unwrap(), server.ipv6().unwrap()),
        ]
    }
}

/// The server isolated, except from the client.
fn only_the_client() -> Policy {
    ingress(policy("default/server", &[("app", "server")]), vec![rule(vec![pods(&[("app", "client")])], vec![])])
}

fn nobody() -> Policy {
    ingress(policy("default/server", &[("app", "server")]), vec![])
}

/// The frames, sent from one pod, that another's interface receives. A broadcast that is not IP, and therefore passes,
/// follows them; after its arrival, no more frames will come.
fn heard(from: &Pod, to: &Pod, frames: &[(&'static str, Vec<u8>)]) -> BTreeSet<&'static str> {
    let (sender, receiver) = (from.frames().unwrap(), to.frames().unwrap());
    for (_, frame) in frames {
        sender.send(frame).unwrap();
    }
    let marker = arp::announcement(from.mac(), Ipv4Addr::new(10, 42, 1, 250));
    sender.send(&marker).unwrap();
    let seen = RefCell::new(BTreeSet::new());
    let came = receiver.wait_for(LIMIT, |frame| {
        seen.borrow_mut().extend(frames.iter().filter(|(_, sent)| sent == frame).map(|(name, _)| *name));
        *frame == marker
    });
    assert!(came.unwrap().is_some(), "the marker did not arrive either");
    seen.into_inner()
}

fn names(frames: &[(&'static str, Vec<u8>)]) -> BTreeSet<&'static str> {
    frames.iter().map(|(name, _)| *name).collect()
}

/// A datagram in a frame.
fn datagram(from: &Pod, to: Mac, ends: Ends) -> Vec<u8> {
    let ethertype = if ends.source().is_ipv4() { arp::ETHERTYPE_IPV4 } else { arp::ETHERTYPE_IPV6 };
    ethernet(to, from.mac(), ethertype, &ends.packet(LabProtocol::Udp, &ends.udp(5353, 5353, b"hello")))
}

/// An ICMPv6 message of neighbour discovery in a frame.
fn discovery(from: &Pod, to: Mac, ends: Ends, kind: u8) -> Vec<u8> {
    ethernet(to, from.mac(), arp::ETHERTYPE_IPV6, &ends.ip(58, 255, &ends.icmp(kind, 0, &[0; 20])))
}

const MULTICAST4: Mac = Mac([1, 0, 0x5e, 0, 0, 0xfb]);
const MULTICAST6: Mac = Mac([0x33, 0x33, 0, 0, 0, 0xfb]);
const ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

fn all_nodes() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
}

#[test]
fn addresses_outside_the_maps() {
    let mut bed = Bed::new();
    let (client, server) = (bed.client.clone(), bed.server.clone());
    let four = client.ipv4().unwrap();
    let (six, local) = (client.ipv6().unwrap(), client.link_local());
    let mdns = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    let frames = [
        ("link-local", datagram(&client, server.mac(), Ends::V6(local, server.link_local()))),
        ("to link-local", datagram(&client, server.mac(), Ends::V6(six, server.link_local()))),
        ("from link-local", datagram(&client, server.mac(), Ends::V6(local, server.ipv6().unwrap()))),
        ("IPv6 multicast", datagram(&client, MULTICAST6, Ends::V6(six, mdns))),
        ("IPv6 multicast from link-local", datagram(&client, MULTICAST6, Ends::V6(local, mdns))),
        ("subnet broadcast", datagram(&client, arp::BROADCAST, Ends::V4(four, Ipv4Addr::new(10, 42, 1, 255)))),
        ("broadcast", datagram(&client, arp::BROADCAST, Ends::V4(four, Ipv4Addr::BROADCAST))),
        (
            "broadcast without a source",
            datagram(&client, arp::BROADCAST, Ends::V4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)),
        ),
        ("IPv4 multicast", datagram(&client, MULTICAST4, Ends::V4(four, Ipv4Addr::new(224, 0, 0, 251)))),
        ("pod address in a broadcast frame", datagram(&client, arp::BROADCAST, Ends::V4(four, server.ipv4().unwrap()))),
        ("pod address in a multicast frame", datagram(&client, ALL_NODES, Ends::V6(six, server.ipv6().unwrap()))),
        (
            "subnet broadcast to the server's MAC",
            datagram(&client, server.mac(), Ends::V4(four, Ipv4Addr::new(10, 42, 1, 255))),
        ),
        ("broadcast to the server's MAC", datagram(&client, server.mac(), Ends::V4(four, Ipv4Addr::BROADCAST))),
        (
            "IPv4 multicast to the server's MAC",
            datagram(&client, server.mac(), Ends::V4(four, Ipv4Addr::new(224, 0, 0, 251))),
        ),
        ("IPv6 multicast to the server's MAC", datagram(&client, server.mac(), Ends::V6(six, mdns))),
    ];
    assert_eq!(bed.heard(&frames), names(&frames), "with nobody isolated");
    bed.put(nobody());
    assert_eq!(bed.heard(&frames), BTreeSet::new(), "with the server isolated");
    bed.withdraw("default/server");
    assert_eq!(bed.heard(&frames), names(&frames), "with the policy withdrawn");
    // Egress isolation of the sender blocks them as well.
    bed.put(egress(policy("default/client", &[("app", "client")]), vec![]));
    assert_eq!(bed.heard(&frames), BTreeSet::new(), "with the client isolated");
}

#[test]
fn pods_cannot_advertise_routes_but_find_neighbours() {
    let mut bed = Bed::new();
    let (client, server) = (bed.client.clone(), bed.server.clone());
    let (all, own) = (Ends::V6(client.link_local(), all_nodes()), Ends::V6(client.link_local(), server.link_local()));
    let routers = [
        ("router advertisement", discovery(&client, ALL_NODES, all, 134)),
        ("router advertisement to one", discovery(&client, server.mac(), own, 134)),
        ("redirect", discovery(&client, server.mac(), own, 137)),
    ];
    let neighbours = [
        ("router solicitation", discovery(&client, ALL_NODES, all, 133)),
        ("neighbour solicitation", discovery(&client, server.mac(), own, 135)),
        ("neighbour advertisement", discovery(&client, ALL_NODES, all, 136)),
    ];
    let report = |kind| {
        let packet = all.ip(58, 1, &all.icmp(kind, 0, &[0; 20]));
        ethernet(ALL_NODES, client.mac(), arp::ETHERTYPE_IPV6, &packet)
    };
    let listeners = [("listener query", report(130)), ("listener report", report(143))];
    for isolated in [false, true] {
        if isolated {
            bed.put(only_the_client());
        }
        assert_eq!(bed.heard(&routers), BTreeSet::new(), "isolated: {isolated}");
        assert_eq!(bed.heard(&neighbours), names(&neighbours), "isolated: {isolated}");
        assert_eq!(bed.heard(&listeners), names(&listeners), "isolated: {isolated}");
    }
    // A solicitation from further away (hop limit below 255) is invalid.
    let far = ethernet(server.mac(), client.mac(), arp::ETHERTYPE_IPV6, &own.ip(58, 64, &own.icmp(135, 0, &[0; 20])));
    assert_eq!(bed.heard(&[("far solicitation", far)]), BTreeSet::new());
    // Resolution from empty neighbour tables, with both ends isolated.
    bed.put(egress(
        policy("default/client", &[("app", "client")]),
        vec![rule(vec![pods(&[("app", "server")])], vec![])],
    ));
    server.serve(&[Listen::tcp(80)]).unwrap();
    for namespace in [client.namespace(), server.namespace(), bed.lab.node(1).namespace()] {
        for family in ["-4", "-6"] {
            namespace.output("ip", &[family, "neigh", "flush", "all"], "").unwrap();
        }
    }
    for address in server.addresses() {
        assert!(probe(&Flow::tcp(&client, address, 80), LIMIT).unwrap().is_reachable(), "{address}");
    }
    // The control of the first half: nothing but the table stops them.
    bed.enforcer.delete_table();
    assert_eq!(heard(&client, &server, &routers), names(&routers));
}

/// Sends IP packets from outside to a pod and returns the names of those that arrive, recognised by their payload.
fn arrives(
    bed: &Bed,
    from: &palisade_lab::Host,
    packets: &[(&'static str, Ends, u8, Vec<u8>)],
) -> BTreeSet<&'static str> {
    let receiver = bed.client.frames().unwrap();
    for (_, ends, protocol, segment) in packets {
        from.namespace().send_packet(&ends.ip(*protocol, 64, segment)).unwrap();
    }
    bed.lab.settle().unwrap();
    let frames = receiver.drain().unwrap();
    let came = |segment: &[u8]| frames.iter().any(|frame| frame.ends_with(segment));
    packets.iter().filter(|(_, _, _, segment)| came(segment)).map(|(name, ..)| *name).collect()
}

#[test]
fn errors_about_its_own_flows_reach_an_isolated_pod() {
    let mut bed = Bed::new();
    let outside =
        bed.lab.add_host("outside", &["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]).unwrap();
    let four = (bed.client.ipv4().unwrap(), Ipv4Addr::new(203, 0, 113, 7));
    let six: (_, Ipv6Addr) = (bed.client.ipv6().unwrap(), "2001:db8::7".parse().unwrap());
    let flows = [Ends::V4(four.0, four.1), Ends::V6(six.0, six.1)];
    let cited = |ends: Ends, source: u16| ends.packet(LabProtocol::Udp, &ends.udp(source, 9, &[7; 64]));
    let error = |ends: Ends, source: u16| {
        let back = ends.reversed();
        let (kind, code) = if ends.source().is_ipv4() { (3, 4) } else { (2, 0) };
        let protocol = LabProtocol::Icmp.number(ends.source());
        let rest = [[0, 0, 5, 0].as_slice(), &cited(ends, source)].concat();
        (back, protocol, back.icmp(kind, code, &rest))
    };
    let errors: Vec<_> = flows
        .iter()
        .flat_map(|&ends| {
            let names =
                if ends.source().is_ipv4() { ["own IPv4", "strange IPv4"] } else { ["own IPv6", "strange IPv6"] };
            [(names[0], error(ends, 4000)), (names[1], error(ends, 4001))]
        })
        .map(|(name, (ends, protocol, segment))| (name, ends, protocol, segment))
        .collect();
    let everything = BTreeSet::from(["own IPv4", "own IPv6", "strange IPv4", "strange IPv6"]);
    let open = |bed: &Bed| {
        for ends in flows {
            bed.client.namespace().send_packet(&cited(ends, 4000)).unwrap();
        }
        bed.lab.settle().unwrap();
    };
    open(&bed);
    assert_eq!(arrives(&bed, &outside, &errors), everything, "not isolated");
    // By the port of its flow, which an error does not have.
    let outward = rule(vec![block("203.0.113.0/24"), block("2001:db8::/32")], vec![port(Protocol::Udp, 9)]);
    bed.put(egress(ingress(policy("default/client", &[("app", "client")]), vec![]), vec![outward]));
    open(&bed);
    assert_eq!(arrives(&bed, &outside, &errors), BTreeSet::from(["own IPv4", "own IPv6"]), "isolated");
}

#[test]
fn packets_without_a_flow_do_not_reach_an_isolated_pod() {
    let mut bed = Bed::new();
    let (client, server) = (bed.client.clone(), bed.server.clone());
    // A reset without a connection is invalid to conntrack, whatever its source; so are impossible flags.
    let segment = |ends: Ends, flags| {
        let tcp = Tcp { source_port: 40_000, destination_port: 80, sequence: 1, acknowledgement: 1, flags };
        let ethertype = if ends.source().is_ipv4() { arp::ETHERTYPE_IPV4 } else { arp::ETHERTYPE_IPV6 };
        ethernet(server.mac(), client.mac(), ethertype, &ends.packet(LabProtocol::Tcp, &ends.tcp(&tcp, b"")))
    };
    let [four, six] = bed.ends();
    let invalid = [
        ("IPv4 reset", segment(four, tcp_flag::RST)),
        ("IPv6 reset", segment(six, tcp_flag::RST)),
        ("IPv4 SYN and FIN", segment(four, tcp_flag::SYN | tcp_flag::FIN)),
    ];
    // Untracked: a foreign table sets notrack on port 53, as NodeLocal DNSCache does.
    bed.lab
        .node(1)
        .nft("table inet dns { chain raw { type filter hook prerouting priority raw; udp dport 53 notrack; }; }")
        .unwrap();
    let query = |ends: Ends| {
        let ethertype = if ends.source().is_ipv4() { arp::ETHERTYPE_IPV4 } else { arp::ETHERTYPE_IPV6 };
        ethernet(server.mac(), client.mac(), ethertype, &ends.packet(LabProtocol::Udp, &ends.udp(5000, 53, b"query")))
    };
    let untracked = [("IPv4 query", query(four)), ("IPv6 query", query(six))];
    for frames in [invalid.as_slice(), &untracked] {
        assert_eq!(bed.heard(frames), names(frames), "not isolated");
    }
    // The policy would allow the client: the packets are dropped because they have no flow.
    bed.put(only_the_client());
    for frames in [invalid.as_slice(), &untracked] {
        assert_eq!(bed.heard(frames), BTreeSet::new(), "isolated");
    }
    let syn = [("SYN", segment(four, tcp_flag::SYN))];
    assert_eq!(bed.heard(&syn), names(&syn), "the client is allowed");
}

/// Frames with VLAN ID 0, which the receiver treats as untagged: br_netfilter passes them to the rules only if
/// configured to. (The agent warns if it is not.)
#[test]
fn frames_with_a_vlan_tag() {
    let mut bed = Bed::new();
    bed.put(nobody());
    let (client, server) = (bed.client.clone(), bed.server.clone());
    let sinks = server.addresses().into_iter().map(|address| Sink::open(&server, address, 5353).unwrap());
    let sinks: Vec<_> = sinks.collect();
    let tagged = bed.ends().map(|ends| {
        let mut frame = datagram(&client, server.mac(), ends);
        // After the frame's addresses: the tag's type, and a tag of all zeros.
        frame.splice(12..12, [0x81, 0, 0, 0]);
        ("tagged", frame)
    });
    let taken = |filtered: &str| {
        bed.lab.node(1).namespace().sysctl(&[("net/bridge/bridge-nf-filter-vlan-tagged", filtered)]).unwrap();
        // The frames lose their tags on the way; the server's sockets are what counts.
        bed.heard(&tagged);
        sinks.iter().map(|sink| (sink.counts(0), sink.strangers()).1).collect::<Vec<_>>()
    };
    assert_eq!(taken("0"), [1, 1], "unseen");
    assert_eq!(taken("1"), [1, 1], "seen, and dropped");
}

#[test]
fn a_stream_picked_up_in_the_middle() {
    let mut bed = Bed::new();
    let (client, server) = (bed.client.clone(), bed.server.clone());
    server.serve(&[Listen::tcp(80)]).unwrap();
    bed.put(only_the_client());
    for address in server.addresses() {
        // The client sends first: conntrack picks the flow up again, and it continues.
        let stream = Stream::start(&Flow::tcp(&client, address, 80), Duration::from_millis(2)).unwrap();
        stream.wait_alive(LIMIT).unwrap();
        bed.lab.node(1).conntrack(&["-F"]).unwrap();
        stream.wait_alive(LIMIT).unwrap();
        // ... and a later revocation cuts it.
        bed.put(nobody());
        let cut = Instant::now();
        stream.wait_silent(Duration::from_millis(100), LIMIT).unwrap();
        assert!(stream.stats().last_answered_sent_at.unwrap() <= cut, "{address}");
        bed.put(only_the_client());
    }
    // The server sends first: no entry with swapped ends is created. (The client would answer with a reset, which ends
    // the entry at once.)
    client
        .namespace()
        .nft("table inet quiet { chain output { type filter hook output priority 0; tcp flags rst drop; }; }")
        .unwrap();
    let segment = |ends: Ends| {
        let back = ends.reversed();
        let tcp =
            Tcp { source_port: 80, destination_port: 40_001, sequence: 1, acknowledgement: 1, flags: tcp_flag::ACK };
        let ethertype = if ends.source().is_ipv4() { arp::ETHERTYPE_IPV4 } else { arp::ETHERTYPE_IPV6 };
        ethernet(client.mac(), server.mac(), ethertype, &back.packet(LabProtocol::Tcp, &back.tcp(&tcp, b"x")))
    };
    let [four, six] = bed.ends();
    let replies = [("IPv4", segment(four)), ("IPv6", segment(six))];
    assert_eq!(heard(&server, &client, &replies), BTreeSet::new());
    let swapped = |bed: &Bed| {
        let entries = ["ipv4", "ipv6"].map(|family| bed.lab.node(1).conntrack(&["-L", "-f", family]).unwrap());
        entries.concat().matches("sport=80 dport=40001").count()
    };
    assert_eq!(swapped(&bed), 0);
    bed.withdraw("default/server");
    assert_eq!(heard(&server, &client, &replies), names(&replies), "with nobody isolated");
    assert!(swapped(&bed) > 0, "the control creates no entry either");
}

#[test]
fn a_reused_address_does_not_inherit_flows() {
    for forgets in [true, false] {
        let mut bed = Bed::new();
        bed.enforcer.forgets = forgets;
        let reused: Ipv4Addr = "10.42.1.77".parse().unwrap();
        let reused6: Ipv6Addr = "fd42:1::77".parse().unwrap();
        let add = |name: &str| bed.lab.node(1).add_pod_with(PodSpec::new(name).ipv4(reused).ipv6(reused6)).unwrap();
        let old = add("default/old");
        let addresses = old.addresses();
        bed.enforcer.apply([Change::Pod(pod("default/old", "node-1", &[("app", "old")], &addresses))]);
        // The old pod asks the peer, and the peer answers for a long time.
        let ask = |ends: Ends| ends.packet(LabProtocol::Udp, &ends.udp(6000, 7000, b"question"));
        let flows = [Ends::V4(reused, bed.client.ipv4().unwrap()), Ends::V6(reused6, bed.client.ipv6().unwrap())];
        for ends in flows {
            old.namespace().send_packet(&ask(ends)).unwrap();
        }
        bed.lab.settle().unwrap();
        // Its IP goes to a pod that allows nothing.
        bed.lab.node(1).remove_pod("default/old").unwrap();
        bed.enforcer.apply([Change::PodGone(key("default/old"))]);
        let new = bed.lab.node(1).add_pod_with(PodSpec::new("default/new").ipv4(reused).ipv6(reused6)).unwrap();
        bed.enforcer.apply([
            Change::Policy(ingress(policy("default/new", &[("app", "new")]), vec![])),
            Change::Pod(pod("default/new", "node-1", &[("app", "new")], &addresses)),
        ]);
        let answer = |ends: Ends| {
            let back = ends.reversed();
            let ethertype = if back.source().is_ipv4() { arp::ETHERTYPE_IPV4 } else { arp::ETHERTYPE_IPV6 };
            ethernet(
                new.mac(),
                bed.client.mac(),
                ethertype,
                &back.packet(LabProtocol::Udp, &back.udp(7000, 6000, b"answer")),
            )
        };
        let answers = [("IPv4", answer(flows[0])), ("IPv6", answer(flows[1]))];
        let expected = if forgets { BTreeSet::new() } else { names(&answers) };
        assert_eq!(heard(&bed.client, &new, &answers), expected, "forgets: {forgets}");
    }
}

#[test]
fn fragments_get_the_verdict_of_their_datagram() {
    let mut bed = Bed::new();
    let sockets = bed.server.addresses().into_iter().map(|address| {
        let [receiver, sender] = [
            (&bed.server, address, 9000),
            (&bed.client, if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0),
        ]
        .map(|(pod, address, port): (&Pod, IpAddr, u16)| {
            pod.namespace().run(|| std::net::UdpSocket::bind((address, port))).unwrap().unwrap()
        });
        sender.connect((address, 9000)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        (receiver, sender)
    });
    let sockets: Vec<_> = sockets.collect();
    let large = [0x5a; 4000];
    let came = |bed: &Bed| -> Vec<bool> {
        for (_, sender) in &sockets {
            sender.send(&large).unwrap();
        }
        bed.lab.settle().unwrap();
        sockets
            .iter()
            .map(|(receiver, _)| receiver.recv(&mut [0; 8192]).is_ok_and(|size| size == large.len()))
            .collect()
    };
    assert_eq!(came(&bed), [true, true], "nobody isolated");
    bed.put(nobody());
    assert_eq!(came(&bed), [false, false], "nothing allowed");
    bed.put(ingress(
        policy("default/server", &[("app", "server")]),
        vec![rule(vec![pods(&[("app", "client")])], vec![port(Protocol::Udp, 9000)])],
    ));
    assert_eq!(came(&bed), [true, true], "this port allowed");
}

#[test]
fn running_streams_are_cut_within_a_packet() {
    let mut bed = Bed::new();
    bed.server.serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
    let mut streams = Vec::new();
    bed.put(only_the_client());
    for address in bed.server.addresses() {
        for protocol in [LabProtocol::Tcp, LabProtocol::Udp] {
            let stream =
                Stream::start(&Flow::new(&bed.client, protocol, address, 80), Duration::from_millis(1)).unwrap();
            streams.push((format!("{protocol} to {address}"), stream));
        }
    }
    let closed_egress = egress(policy("default/client", &[("app", "client")]), vec![]);
    for closing in [nobody(), closed_egress] {
        for (_, stream) in &streams {
            stream.wait_alive(LIMIT).unwrap();
        }
        let name = closing.key.to_string();
        bed.put(closing);
        let cut = Instant::now();
        for (what, stream) in &streams {
            let stats = stream.wait_silent(Duration::from_millis(100), LIMIT).unwrap();
            assert!(stats.last_answered_sent_at.unwrap() <= cut, "{what} continues after {name}");
        }
        bed.withdraw(&name);
        for (what, stream) in &streams {
            stream.wait_alive(LIMIT).unwrap_or_else(|error| panic!("{what} without {name}: {error}"));
        }
        bed.put(only_the_client());
    }
}

#[test]
fn foreign_tables_stay_as_they_are() {
    let mut bed = Bed::new();
    // Counters with values, which nothing here changes.
    let foreign = "\
        table ip nat { chain post { type nat hook postrouting priority srcnat; ip saddr 192.0.2.0/24 counter packets 7 bytes 700 masquerade; }; }\n\
        table inet other { set members { type ipv4_addr; elements = { 192.0.2.1 comment \"one\" }; }; \
        chain forward { type filter hook forward priority 10; ip saddr @members counter packets 8 bytes 800 drop; }; }\n\
        table bridge layer2 { chain forward { type filter hook forward priority 0; ether type 0x9000 counter packets 9 bytes 900 accept; }; }\n";
    bed.lab.node(1).nft(foreign).unwrap();
    let list = |bed: &Bed| {
        let tables = [["ip", "nat"], ["inet", "other"], ["bridge", "layer2"]];
        tables
            .map(|[family, name]| {
                bed.lab.node(1).namespace().output("nft", &["-a", "list", "table", family, name], "").unwrap()
            })
            .concat()
    };
    let before = list(&bed);
    bed.put(only_the_client());
    bed.put(nobody());
    bed.withdraw("default/server");
    bed.enforcer.apply([Change::PodGone(key("default/server"))]);
    let ruleset = bed.enforcer.engine.ruleset().clone();
    bed.enforcer.table().replace(&ruleset).unwrap();
    assert_eq!(list(&bed), before);
    let Bed { lab, mut enforcer, .. } = bed;
    enforcer.delete_table();
    let after = lab.node(1).namespace().output("nft", &["list", "tables"], "").unwrap();
    assert_eq!(
        after.lines().collect::<BTreeSet<_>>(),
        BTreeSet::from(["table ip nat", "table inet other", "table bridge layer2"])
    );
    // The listing does change with one element.
    let removed = "delete element inet other members { 192.0.2.1 }";
    lab.node(1).nft(removed).unwrap();
    let changed = lab.node(1).namespace().output("nft", &["-a", "list", "table", "inet", "other"], "").unwrap();
    assert!(!before.contains(&changed), "{changed}");
}
