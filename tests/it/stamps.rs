//! The verdict cache on real packets: a stamp is worth something only as long as what it stands for.
//!
//! Seen to fail when: a change leaves the chains of the cache as they are; the same number comes back after a change; a
//! half is used again without clearing conntrack; related packets are accepted by their stamp; flows from broadcast
//! addresses are stamped.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::common::driven::Driven;
use crate::common::objects::{ingress, key, namespace, pod, pods, policy, port, rule};
use crate::common::running::wait;
use palisade_lab::packet::{Ends, Mac, arp, ethernet};
use palisade_lab::{Flood, Flow, Lab, Layout, Pod, Protocol as LabProtocol, Sink};
use palisade_policy::input::{Change, Policy, Protocol, State};
use palisade_ruleset::cache::Slice;
use palisade_ruleset::render::Options;

const PORT: u16 = 7000;
const LIMIT: Duration = Duration::from_secs(20);

/// A node with a client, a server and a third pod.
struct Bed {
    lab: Lab,
    client: Pod,
    server: Pod,
    other: Pod,
    enforcer: Driven,
}

impl Bed {
    fn new(slice: Slice) -> Self {
        let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
        let [client, server, other] =
            ["default/client", "default/server", "default/other"].map(|name| lab.node(1).add_pod(name).unwrap());
        let mut state = State::default();
        state.apply(Change::Namespace(namespace("default", &[])));
        for (name, pod_of, role) in [
            ("default/client", &client, "client"),
            ("default/server", &server, "server"),
            ("default/other", &other, ""),
        ] {
            state.apply(Change::Pod(pod(name, "node-1", &[("role", role)], &pod_of.addresses())));
        }
        let enforcer = Driven::start_stamped(lab.node(1), &state, &Options::default(), Some(slice));
        Self { lab, client, server, other, enforcer }
    }

    fn put(&mut self, policy: Policy) {
        self.enforcer.apply([Change::Policy(policy)]);
    }

    fn stamp(&self) -> u32 {
        self.enforcer.engine.stamp().expect("the cache is in use").number()
    }

    /// The marks of the flows from an address to a port, as conntrack lists them.
    fn marks(&self, from: IpAddr, port: u16) -> Vec<u32> {
        let listed = self.lab.node(1).conntrack(&["-L", "-s", &from.to_string()]).unwrap();
        let lines = listed.lines().filter(|line| line.contains(&format!("dport={port} ")));
        lines.filter_map(|line| line.split("mark=").nth(1)?.split_whitespace().next()?.parse().ok()).collect()
    }
}

/// The server admits pods of a role.
fn admits(role: &str) -> Policy {
    ingress(policy("default/server", &[("role", "server")]), vec![rule(vec![pods(&[("role", role)])], vec![])])
}

/// A stream at full speed: no packet that is sent after the commit that revokes it arrives, however often.
#[test]
fn a_revoked_flow_stops_with_its_commit_every_time() {
    let mut bed = Bed::new(Slice::default());
    bed.put(admits("nobody"));
    let address = bed.server.ipv4().unwrap();
    let sink = Sink::open(&bed.server, address, PORT).unwrap();
    let flood = Flood::start(&Flow::udp(&bed.client, address, PORT), None).unwrap();
    let received = || sink.counts(flood.id()).received;
    for turn in 0..150 {
        let before = received();
        bed.put(admits("client"));
        wait(LIMIT, "arrival of an allowed flow", || received() > before + 50);
        let client = bed.client.ipv4().unwrap().into();
        wait(LIMIT, "stamp", || bed.marks(client, PORT) == [bed.stamp() << 16]);
        bed.put(admits("nobody"));
        let last = flood.sent();
        wait(LIMIT, "more packets of the flood", || flood.sent() > last + 200);
        bed.lab.settle().unwrap();
        let highest = sink.counts(flood.id()).highest.unwrap();
        assert!(highest <= last, "turn {turn}: packet {highest} arrived, sent after {last}, when the flow was revoked");
    }
}

/// With 255 numbers, an idle flow meets each of them again.
#[test]
fn an_idle_flow_does_not_wake_up_when_its_number_comes_again() {
    let mut bed = Bed::new(Slice::new(0xff00_0000).unwrap());
    // Another program's bits stay as they are.
    let other = "table inet other { chain c { type filter hook prerouting priority -100; udp dport 7000 ct mark set ct mark or 0x5; }; }";
    bed.lab.node(1).nft(other).unwrap();
    bed.put(admits("client"));
    let (from, to): (IpAddr, IpAddr) = (bed.client.ipv4().unwrap().into(), bed.server.ipv4().unwrap().into());
    let bind = |pod: &Pod, port| pod.run(|| UdpSocket::bind(("0.0.0.0", port))).unwrap().unwrap();
    let (client, server) = (bind(&bed.client, 0), bind(&bed.server, PORT));
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let send = || client.send_to(b"idle", SocketAddr::new(to, PORT)).unwrap();
    send();
    server.recv_from(&mut [0; 8]).expect("the flow is allowed");
    let first = bed.stamp();
    assert_eq!(bed.marks(from, PORT), [first << 24 | 5]);

    bed.put(admits("nobody"));
    let (mut seen, mut rounds) = (0, 0);
    for turn in 0..1_100 {
        // Each denies something to a flow that nobody has.
        bed.put(admits(if turn % 2 == 0 { "nobody-else" } else { "nobody" }));
        if bed.stamp() == first {
            rounds += 1;
            send();
            assert!(server.recv_from(&mut [0; 8]).is_err(), "the flow passes in turn {turn}");
            seen += 1;
        }
    }
    assert!(rounds >= 4 && seen == rounds, "the number came again {rounds} times");
    assert_eq!(bed.marks(from, PORT), [5], "the stamp is cleared, the other bits are kept");
    // Control: the same flow is allowed again.
    bed.put(admits("client"));
    send();
    server.recv_from(&mut [0; 8]).expect("the flow is allowed again");
    assert_eq!(bed.marks(from, PORT), [bed.stamp() << 24 | 5]);
}

/// FTP's data connection inherits the mark of its control connection, and is judged all the same.
#[test]
fn a_connection_that_a_helper_expects_is_judged() {
    let mut bed = Bed::new(Slice::default());
    let helper = "table inet other {
        ct helper ftp { type \"ftp\" protocol tcp; }
        chain c { type filter hook prerouting priority -100; tcp dport 21 ct helper set \"ftp\"; };
    }";
    bed.lab.node(1).nft(helper).unwrap();
    bed.put(admits("client"));
    let (from, to) = (bed.client.ipv4().unwrap(), bed.server.ipv4().unwrap());
    let control = bed.server.run(|| TcpListener::bind((to, 21))).unwrap().unwrap();
    let data = bed.client.run(|| TcpListener::bind((from, 51_210))).unwrap().unwrap();
    let mut connection = bed.client.run(|| TcpStream::connect((to, 21))).unwrap().unwrap();
    let (_accepted, _) = control.accept().unwrap();
    let [a, b, c, d] = from.octets();
    let offer = format!("PORT {a},{b},{c},{d},200,10\r\n");
    // The helper reads only what follows a whole line. 200 * 256 + 10 = 51210.
    connection.set_nodelay(true).unwrap();
    connection.write_all(b"USER test\r\n").unwrap();
    connection.write_all(offer.as_bytes()).unwrap();
    let expected = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack_expect").unwrap();
    let node = bed.lab.node(1).clone();
    wait(LIMIT, "expectation", || node.run(expected).unwrap().contains("dport=51210"));
    // The client is not isolated so far.
    let server = bed.server.clone();
    let connect = || {
        let to = SocketAddr::new(from.into(), 51_210);
        server.run(move || TcpStream::connect_timeout(&to, Duration::from_millis(700))).unwrap()
    };
    let related = connect().expect("the data connection is allowed");
    data.accept().unwrap();
    drop(related);

    // The client admits nobody. The control connection stays allowed, and gets the current stamp again.
    bed.put(ingress(policy("default/client", &[("role", "client")]), vec![]));
    connection.write_all(offer.as_bytes()).unwrap();
    wait(LIMIT, "expectation", || node.run(expected).unwrap().contains("dport=51210"));
    assert_eq!(bed.marks(from.into(), 21), [bed.stamp() << 16]);
    assert!(connect().is_err(), "the data connection is accepted by the stamp of its control connection");
}

/// Replies to a broadcast or multicast address would reach isolated pods, so such a flow never gets a stamp.
#[test]
fn flows_from_broadcast_and_multicast_addresses_are_not_stamped() {
    let mut bed = Bed::new(Slice::default());
    let (a, b, isolated) = (&bed.client.clone(), &bed.other.clone(), bed.server.clone());
    let b_ip = b.ipv4().unwrap();
    let udp = |from: &Pod, mac: Mac, ends: Ends| {
        ethernet(mac, from.mac(), arp::ETHERTYPE_IPV4, &ends.packet(LabProtocol::Udp, &ends.udp(5353, 5353, b"hello")))
    };
    let addresses = [Ipv4Addr::new(10, 42, 1, 255), Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::BROADCAST];
    let heard = || {
        let ears = isolated.frames().unwrap();
        for address in addresses {
            // It seems to come from there; the answer goes to the isolated pod's interface.
            a.frames().unwrap().send(&udp(a, b.mac(), Ends::V4(address, b_ip))).unwrap();
        }
        let answers = addresses.map(|address| udp(b, isolated.mac(), Ends::V4(b_ip, address)));
        let talker = b.frames().unwrap();
        for answer in &answers {
            talker.send(answer).unwrap();
        }
        let marker = arp::announcement(b.mac(), Ipv4Addr::new(10, 42, 1, 250));
        talker.send(&marker).unwrap();
        let count = std::cell::Cell::new(0);
        let came = ears.wait_for(LIMIT, |frame| {
            count.set(count.get() + usize::from(answers.iter().any(|answer| answer == frame)));
            *frame == marker
        });
        assert!(came.unwrap().is_some(), "the marker did not arrive either");
        count.get()
    };
    assert!(heard() > 0, "with nobody isolated");
    bed.enforcer.apply([Change::Policy(admits("nobody"))]);
    assert_eq!(heard(), 0, "with a pod isolated");
    for address in addresses {
        let marks = bed.marks(address.into(), 5353);
        assert!(marks.iter().all(|mark| mark >> 16 != bed.stamp()), "{address}: {marks:?}, stamp {}", bed.stamp());
    }
}

/// An agent that finds the table as it wants it goes on with its stamp; one that makes a new table clears old stamps.
#[test]
fn a_restart_keeps_stamps_and_a_new_table_clears_them() {
    let mut bed = Bed::new(Slice::default());
    bed.put(admits("client"));
    let (from, to): (IpAddr, IpAddr) = (bed.client.ipv4().unwrap().into(), bed.server.ipv4().unwrap().into());
    let client = bed.client.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let _server = bed.server.run(|| UdpSocket::bind(("0.0.0.0", PORT))).unwrap().unwrap();
    client.send_to(b"x", SocketAddr::new(to, PORT)).unwrap();
    let stamp = bed.stamp();
    assert_eq!(bed.marks(from, PORT), [stamp << 16]);
    let state = bed.enforcer.engine.index().state().clone();
    let generation = bed.enforcer.table().generation().unwrap();
    bed.enforcer.turn_to(&state, &Options::default());
    assert_eq!(bed.stamp(), stamp);
    assert_eq!(bed.enforcer.table().generation().unwrap(), generation, "a restart commits something");
    assert_eq!(bed.marks(from, PORT), [stamp << 16]);

    bed.enforcer.delete_table();
    bed.enforcer.turn_to(&state, &Options::default());
    assert_eq!(bed.stamp(), 1);
    assert_eq!(bed.marks(from, PORT), [0]);
}

/// What only adds keeps the stamp; what takes something away does not.
#[test]
fn only_changes_that_deny_something_use_up_a_number() {
    let mut bed = Bed::new(Slice::default());
    bed.put(admits("client"));
    let before = bed.stamp();
    let far = |name: &str, last: u8, role: &str| {
        Change::Pod(pod(name, "node-2", &[("role", role)], &[IpAddr::from([10, 42, 2, last])]))
    };
    bed.enforcer.apply([far("default/far-1", 2, "client"), far("default/far-2", 3, "other")]);
    assert_eq!(bed.stamp(), before, "peers were added");
    bed.enforcer.apply([far("default/far-2", 3, "client")]);
    assert_eq!(bed.stamp(), before, "a peer was added");
    bed.enforcer.apply([far("default/far-2", 3, "other")]);
    assert_eq!(bed.stamp(), before + 1, "a peer was removed");
    bed.enforcer.apply([Change::PodGone(key("default/far-2"))]);
    assert_eq!(bed.stamp(), before + 1, "no peer was removed");
    let narrow = rule(vec![pods(&[("role", "client")])], vec![port(Protocol::Udp, PORT)]);
    bed.put(ingress(policy("default/server", &[("role", "server")]), vec![narrow]));
    assert_eq!(bed.stamp(), before + 2, "rules changed");
}
