//! Floods are counted to the last datagram, streams report the moment they are cut, and raw packets go where
//! applications cannot send.
//!
//! Seen to fail when: a sink counts one sequence number wrongly; a rule drops one datagram in thousands; a flood sends
//! at twice its rate; link-local destinations get no interface; a frame socket receives what its own namespace sends.

use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::packet::{Ends, Tcp, arp, ethernet, tcp_flag};
use palisade_lab::{
    DEFAULT_DEADLINE, Family, Flood, Flow, Lab, Layout, Listen, Outcome, Pod, Protocol, Sink, Stream, probe_all,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A node with two pods.
fn bed(layout: Layout) -> (Lab, Pod, Pod) {
    let lab = Lab::builder().node(layout).build().unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.node(1).add_pod(name).unwrap());
    (lab, a, b)
}

/// A forward chain of these rules on the first node.
fn forward(lab: &Lab, rules: &str) {
    let script = format!(
        "table inet test\ndelete table inet test\n\
         table inet test {{ chain forward {{ type filter hook forward priority filter; {rules}; }}; }}\n"
    );
    lab.node(1).nft(&script).unwrap();
}

/// Runs a flood of 100,000 datagrams into a sink, checks the counts, and returns its rate per second.
fn counted_flood(lab: &Lab, from: &Pod, to: (&Pod, IpAddr)) -> f64 {
    let sink = Sink::open(to.0, to.1, 7000).unwrap();
    let drops = lab.queue_drops().unwrap();
    let flood = Flood::start(&Flow::udp(from, to.1, 7000), None).unwrap();
    let start = Instant::now();
    while flood.sent() < 100_000 {
        assert!(start.elapsed() < LIMIT, "{} sent in {LIMIT:?}", flood.sent());
        thread::sleep(Duration::from_millis(5));
    }
    let report = flood.stop();
    lab.settle().unwrap();
    let counts = sink.counts(report.id);
    // None, unless the machine is so busy that the kernel dropped some: then it reports them.
    let excused = sink.socket_drops().unwrap() + lab.queue_drops().unwrap() - drops;
    assert!(counts.missing(report.sent) <= excused, "{counts:?}, {report:?}, {excused} excused");
    assert_eq!(counts.received, counts.distinct);
    assert_eq!((report.refused, sink.strangers()), (0, 0));
    report.rate()
}

#[test]
fn a_flood_is_fast_and_counted_to_the_last_datagram() {
    let (lab, a, b) = bed(Layout::Bridge);
    for to in b.addresses() {
        // Other tests run at the same time: one quiet moment is enough.
        let rates: Vec<f64> = (0..5).map(|_| counted_flood(&lab, &a, (&b, to))).collect();
        println!("datagrams per second: {rates:.0?}");
        assert!(rates.iter().any(|&rate| rate >= 50_000.0), "{rates:?}");
    }
}

#[test]
fn what_a_rule_drops_is_missing_and_what_it_denies_is_not_counted() {
    let (lab, a, b) = bed(Layout::Bridge);
    let to = b.ipv4().unwrap();
    let sink = Sink::open(&b, to, 7000).unwrap();
    // Datagram number 999 of each flood: 8 bytes of UDP header, 8 of mark and id, then the number.
    forward(&lab, "udp dport 7000 @th,128,64 999 drop; udp sport 7999 drop");
    let thinned = Flood::start(&Flow::udp(&a, to, 7000), Some(20_000)).unwrap();
    let denied = Flood::start(&Flow::udp(&a, to, 7000).from_port(7999), Some(20_000)).unwrap();
    while thinned.sent() < 5_000 || denied.sent() < 5_000 {
        thread::sleep(Duration::from_millis(5));
    }
    let (thinned, denied) = (thinned.stop(), denied.stop());
    lab.settle().unwrap();
    assert_eq!(sink.counts(thinned.id).missing(thinned.sent), 1);
    assert_eq!(sink.counts(denied.id).received, 0);
    let rate = thinned.rate();
    assert!((10_000.0..=20_100.0).contains(&rate), "{rate:.0} datagrams per second instead of 20,000");
}

#[test]
fn an_overflowing_sink_says_so() {
    let (lab, a, b) = bed(Layout::Routed);
    let to = b.ipv4().unwrap();
    // A socket with a small queue that is never read, as a sink that is too slow.
    let slow = b.run(|| std::net::UdpSocket::bind((to, 7000))).unwrap().unwrap();
    let flood = Flood::start(&Flow::udp(&a, to, 7000), None).unwrap();
    while flood.sent() < 5_000 {
        thread::sleep(Duration::from_millis(1));
    }
    let report = flood.stop();
    lab.settle().unwrap();
    let table = b.run(|| std::fs::read_to_string("/proc/thread-self/net/udp")).unwrap().unwrap();
    let drops: u64 = table.lines().nth(1).unwrap().split_whitespace().next_back().unwrap().parse().unwrap();
    assert!(drops > 0 && drops < report.sent);
    drop(slow);
}

#[test]
fn a_stream_is_cut_and_resumes() {
    for layout in [Layout::Bridge, Layout::Routed] {
        let (lab, a, b) = bed(layout);
        b.serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
        for to in b.addresses() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                forward(&lab, "accept");
                let stream = Stream::start(&Flow::new(&a, protocol, to, 80), Duration::from_millis(2)).unwrap();
                stream.wait_alive(LIMIT).unwrap();
                let name = format!("{protocol} to {to}");
                forward(&lab, "meta l4proto { tcp, udp } drop");
                let cut = Instant::now();
                let stats = stream.wait_silent(Duration::from_millis(100), LIMIT).unwrap();
                assert!(stats.last_answered_sent_at.unwrap() <= cut, "{name}");
                assert!(stats.sent > stats.replies, "{name}");
                stream.wait_alive_after(cut, Duration::from_millis(50)).unwrap_err();
                forward(&lab, "accept");
                let reopened = Instant::now();
                stream.wait_alive_after(reopened, LIMIT).unwrap();
                let stats = stream.stats();
                assert_eq!(stats.closed, None, "{name}");
                // TCP repeats what was lost; UDP does not.
                if protocol == Protocol::Udp {
                    assert!(stats.replies + 10 < stats.sent, "{name}: {stats:?}");
                }
            }
        }
    }
}

#[test]
fn a_streams_end_is_noticed() {
    let (_lab, a, b) = bed(Layout::Bridge);
    b.serve(&[Listen::tcp(80)]).unwrap();
    let flow = Flow::tcp(&a, b.ipv4().unwrap(), 80);
    let stream = Stream::start(&flow, Duration::from_millis(2)).unwrap();
    stream.wait_alive(LIMIT).unwrap();
    b.stop_serving();
    stream.wait_silent(Duration::from_millis(50), LIMIT).unwrap();
    assert!(stream.stats().closed.is_some());
    assert!(Stream::start(&flow, Duration::from_millis(2)).is_err());
}

#[test]
fn arbitrary_packets_reach_a_pods_wire() {
    let (lab, a, b) = bed(Layout::Bridge);
    let wire = b.frames().unwrap();
    for family in Family::ALL {
        let ends = Ends::new(a.address(family).unwrap(), b.address(family).unwrap()).unwrap();
        // A TCP packet from the middle of a connection that never existed.
        let tcp =
            Tcp { source_port: 80, destination_port: 40_000, sequence: 7, flags: tcp_flag::ACK, ..Tcp::default() };
        let packet = ends.packet(Protocol::Tcp, &ends.tcp(&tcp, b"middle"));
        a.namespace().send_packet(&packet).unwrap();
        let header = if family == Family::V4 { 20 } else { 40 };
        let arrived = wire.wait_for(LIMIT, |frame| frame.ends_with(b"middle")).unwrap().unwrap();
        assert_eq!(arrived[14 + header..], packet[header..]);
    }
    forward(&lab, "meta l4proto tcp drop");
    let ends = Ends::new(a.ipv4().unwrap(), b.ipv4().unwrap()).unwrap();
    wire.drain().unwrap();
    a.namespace().send_packet(&ends.packet(Protocol::Tcp, &ends.tcp(&Tcp::default(), b"denied"))).unwrap();
    lab.settle().unwrap();
    assert!(wire.drain().unwrap().iter().all(|frame| !frame.ends_with(b"denied")));
}

#[test]
fn link_local_broadcast_and_multicast_pass_a_bridge() {
    let (lab, a, b) = bed(Layout::Bridge);
    b.run(|| std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts", "0")).unwrap().unwrap();
    let wire = b.frames().unwrap();
    // Routed: the kernel itself resolves the neighbour's link-local address.
    let direct = Flow::ping(&a, b.link_local());
    assert_eq!(probe_all(std::slice::from_ref(&direct), LIMIT).unwrap(), [Outcome::Reachable]);
    assert_eq!(lab.shoot(&[direct]).unwrap(), [true]);
    let everybody: IpAddr = "10.42.1.255".parse().unwrap();
    let group: IpAddr = "224.0.0.251".parse().unwrap();
    for to in [everybody, group] {
        let ends = Ends::new(a.ipv4().unwrap(), to).unwrap();
        a.namespace().send_packet(&ends.packet(Protocol::Udp, &ends.udp(5353, 5353, b"to all"))).unwrap();
        assert!(wire.wait_for(LIMIT, |frame| frame.ends_with(b"to all")).unwrap().is_some(), "{to}");
    }
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let ends = Ends::new(a.link_local(), all_nodes).unwrap();
    a.namespace().send_packet(&ends.packet(Protocol::Udp, &ends.udp(5353, 5353, b"to six"))).unwrap();
    assert!(wire.wait_for(LIMIT, |frame| frame.ends_with(b"to six")).unwrap().is_some());
}

#[test]
fn frames_are_sent_as_they_are() {
    let (lab, a, b) = bed(Layout::Bridge);
    let (from, to) = (a.frames().unwrap(), b.frames().unwrap());
    let ends = Ends::new(a.ipv4().unwrap(), b.ipv4().unwrap()).unwrap();
    let packet = ends.packet(Protocol::Udp, &ends.udp(1, 2, b"by hand"));
    let frame = ethernet(b.mac(), a.mac(), arp::ETHERTYPE_IPV4, &packet);
    from.send(&frame).unwrap();
    assert_eq!(to.wait_for(LIMIT, |seen| *seen == *frame).unwrap(), Some(frame.clone()));
    lab.settle().unwrap();
    // The bridge may not have known where `b` is, and then has sent the frame back out of every port in hairpin mode.
    from.drain().unwrap();
    // A socket does not receive frames that its own namespace sends.
    a.namespace().send_packet(&packet).unwrap();
    lab.settle().unwrap();
    let is_own = |seen: &Vec<u8>| seen[6..12] == a.mac().0 && seen.ends_with(b"by hand");
    assert!(!from.drain().unwrap().iter().any(is_own));
    assert!(to.wait_for(LIMIT, |seen| seen.ends_with(b"by hand")).unwrap().is_some());
    let gateway = ethernet(lab.node(1).bridge_mac(), a.mac(), arp::ETHERTYPE_IPV4, &packet);
    from.send(&gateway).unwrap();
    assert!(to.wait_for(LIMIT, |seen| seen.ends_with(b"by hand")).unwrap().is_some());
}

#[test]
fn a_pods_link_local_address_is_the_kernels() {
    let (_lab, a, _b) = bed(Layout::Routed);
    let addresses = a.namespace().output("ip", &["-6", "-brief", "address", "show", "eth0"], "").unwrap();
    assert!(addresses.contains(&format!("{}/64", a.link_local())), "{addresses}");
    let links = a.namespace().output("ip", &["-brief", "link", "show", "eth0"], "").unwrap();
    assert!(links.contains(&a.mac().to_string()), "{links}");
    // A probe respects its deadline.
    let start = Instant::now();
    let nobody = Flow::udp(&a, "10.42.1.99".parse::<IpAddr>().unwrap(), 1);
    assert_eq!(probe_all(&[nobody], DEFAULT_DEADLINE).unwrap(), [Outcome::Unreachable]);
    assert!(start.elapsed() < 3 * DEFAULT_DEADLINE);
}
