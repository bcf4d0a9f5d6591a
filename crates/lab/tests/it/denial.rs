//! A rule that drops one flow makes probes and shots report exactly that flow as denied: for every protocol and family,
//! on every path. The rules are handwritten; Palisade's own code is not involved.
//!
//! Seen to fail when: a refusal (ICMP port unreachable, reset) is taken for silence; a shot ignores the requested
//! source port; a shot's ICMPv6 or SCTP checksum is wrong. (Leaving out the fence, or letting the sender change CPUs,
//! is *not* found on an ordinary kernel, which handles a packet before the sending call returns; it matters when the
//! kernel defers work to its own threads.)

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use palisade_lab::{
    DEFAULT_DEADLINE, Error, Family, Flood, Flow, Lab, Layout, Listen, Namespace, Outcome, Protocol, Service, Sink,
    probe_all,
};

const PORT: u16 = 8080;

/// A flow as a rule sees it: its source and, after any Service translation, its destination.
struct Case {
    flow: Flow,
    seen: (IpAddr, IpAddr),
}

impl Case {
    fn new(from: impl AsRef<Namespace>, protocol: Protocol, (source, to): (IpAddr, IpAddr)) -> Self {
        Self { flow: Flow::new(from, protocol, to, PORT).from_address(source), seen: (source, to) }
    }

    /// The rule that drops it.
    fn rule(&self) -> String {
        let (source, to) = self.seen;
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let what = match (self.flow.protocol, to) {
            (Protocol::Tcp, _) => format!("tcp dport {PORT}"),
            (Protocol::Udp, _) => format!("udp dport {PORT}"),
            (Protocol::Sctp, _) => format!("sctp dport {PORT}"),
            (Protocol::Icmp, IpAddr::V4(_)) => "icmp type echo-request".into(),
            (Protocol::Icmp, IpAddr::V6(_)) => "icmpv6 type echo-request".into(),
        };
        format!("{family} saddr {source} {family} daddr {to} {what} drop")
    }
}

/// A lab with every kind of path, and a case of every protocol and family on each.
fn bed() -> (Lab, Vec<Case>) {
    let lab = Lab::builder().nodes(2, Layout::Bridge).node(Layout::Routed).build().unwrap();
    let names = [(1, "b1"), (1, "b2"), (2, "b3"), (3, "r1"), (3, "r2")];
    let pods = names.map(|(node, name)| lab.node(node).add_pod(name).unwrap());
    let listen = [Listen::tcp(PORT), Listen::udp(PORT), Listen::sctp(PORT)];
    for pod in &pods {
        pod.serve(&listen).unwrap();
    }
    for node in lab.nodes() {
        node.serve(&listen).unwrap();
    }
    let services: [(Family, IpAddr); 2] =
        [(Family::V4, "10.96.0.10".parse().unwrap()), (Family::V6, "fd96::10".parse().unwrap())];
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let addresses = services.map(|(_, address)| address);
        let service = Service::new(protocol.to_string(), (protocol, PORT), &addresses, (&pods[2], PORT));
        lab.add_service(service).unwrap();
    }
    let [b1, b2, b3, r1, r2] = &pods;
    let mut cases = Vec::new();
    for protocol in Protocol::ALL {
        for (family, service) in services {
            let of = |pod: &palisade_lab::Pod| pod.address(family).unwrap();
            for (from, to) in [(b1, b2), (b1, b3), (b1, r1), (r1, r2), (r1, b2)] {
                cases.push(Case::new(from, protocol, (of(from), of(to))));
            }
            let node = lab.node(1);
            cases.push(Case::new(node, protocol, (node.address(family), of(b2))));
            cases.push(Case::new(node, protocol, (node.address(family), of(r2))));
            cases.push(Case::new(b2, protocol, (of(b2), node.address(family))));
            cases.push(Case::new(r2, protocol, (of(r2), lab.node(3).address(family))));
            if protocol != Protocol::Icmp {
                let mut through = Case::new(r2, protocol, (of(r2), of(b3)));
                through.flow.to = service;
                cases.push(through);
            }
        }
    }
    (lab, cases)
}

/// Makes every node drop these cases on every path, and nothing else.
fn deny(lab: &Lab, cases: &[&Case]) {
    let mut script = String::from("table inet test\ndelete table inet test\ntable inet test {\n");
    for hook in ["forward", "input", "output"] {
        writeln!(script, "chain {hook} {{ type filter hook {hook} priority filter").unwrap();
        for case in cases {
            writeln!(script, "{}", case.rule()).unwrap();
        }
        script.push_str("}\n");
    }
    script.push_str("}\n");
    for node in lab.nodes() {
        drop(node.nft(&script).unwrap());
    }
}

#[test]
fn shots_report_exactly_the_denied_flow() {
    let (lab, cases) = bed();
    let flows: Vec<Flow> = cases.iter().map(|case| case.flow.clone()).collect();
    assert_eq!(flows.len(), 3 * 2 * 10 + 2 * 9);
    for (number, case) in cases.iter().enumerate() {
        deny(&lab, &[case]);
        // Sometimes the neighbour tables are cold, so that shots also wait for address resolution.
        if number % 8 == 0 {
            for node in lab.nodes() {
                drop(node.namespace().output("ip", &["neigh", "flush", "all"], ""));
            }
        }
        let arrived = lab.shoot(&flows).unwrap();
        for (position, (flow, arrived)) in flows.iter().zip(arrived).enumerate() {
            // A direct flow and one through the Service may look the same to a rule.
            let is_denied = cases[position].rule() == case.rule();
            assert_eq!(arrived, !is_denied, "{flow}, with {}", case.rule());
        }
    }
}

#[test]
fn probes_report_exactly_the_denied_flows_and_cost_one_deadline() {
    let (lab, cases) = bed();
    let flows: Vec<Flow> = cases.iter().map(|case| case.flow.clone()).collect();
    for third in 0..3 {
        let denied: Vec<&Case> = cases.iter().skip(third).step_by(3).collect();
        deny(&lab, &denied);
        let deadline = Duration::from_secs(1);
        let start = Instant::now();
        let outcomes = probe_all(&flows, deadline).unwrap();
        let elapsed = start.elapsed();
        for (case, outcome) in cases.iter().zip(outcomes) {
            let is_denied = denied.iter().any(|denied| denied.rule() == case.rule());
            let expected = if is_denied { Outcome::Unreachable } else { Outcome::Reachable };
            assert_eq!(outcome, expected, "{}", case.flow);
        }
        assert!(elapsed >= deadline && elapsed < deadline * 2, "{elapsed:?}");
    }
}

#[test]
fn a_rule_that_rejects_looks_refused() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.node(1).add_pod(name).unwrap());
    b.serve(&[Listen::tcp(PORT), Listen::udp(PORT)]).unwrap();
    let to = b.ipv4().unwrap();
    let flows = [Flow::tcp(&a, to, PORT), Flow::udp(&a, to, PORT)];
    lab.node(1)
        .nft(
            "table inet test { chain forward { type filter hook forward priority filter\n\
             tcp dport 8080 reject with tcp reset\nudp dport 8080 reject\n}\n}",
        )
        .unwrap();
    assert_eq!(probe_all(&flows, DEFAULT_DEADLINE).unwrap(), [Outcome::Refused; 2]);
    assert_eq!(lab.shoot(&flows).unwrap(), [false; 2]);
}

#[test]
fn source_ports_are_what_was_asked_for() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.node(1).add_pod(name).unwrap());
    b.serve(&[Listen::tcp(PORT), Listen::udp(PORT), Listen::sctp(PORT)]).unwrap();
    let keep = "table inet test { chain forward { type filter hook forward priority filter; policy drop\n\
                meta l4proto { tcp, udp, sctp } th sport 40001 accept\n\
                meta l4proto { tcp, udp, sctp } th sport 8080 accept\n\
                icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n}\n}";
    lab.node(1).nft(keep).unwrap();
    for to in b.addresses() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let flow = Flow::new(&a, protocol, to, PORT);
            let flows = [flow.clone().from_port(40_001), flow.clone().from_port(40_002), flow];
            assert_eq!(lab.shoot(&flows).unwrap(), [true, false, false], "{}", flows[0]);
            let outcomes = probe_all(&flows[1..], DEFAULT_DEADLINE).unwrap();
            assert_eq!(outcomes, [Outcome::Unreachable; 2], "{}", flows[0]);
            // Repeatedly from the same port: earlier probes leave nothing behind that interferes. (TCP's new SYN may
            // overtake the old connection's reset on another CPU; it is repeated after a second.)
            for _ in 0..3 {
                let outcomes = probe_all(&flows[..1], Duration::from_secs(5)).unwrap();
                assert_eq!(outcomes, [Outcome::Reachable], "{}", flows[0]);
            }
        }
    }
}

#[test]
fn thousands_of_shots_take_a_second() {
    let (lab, cases) = bed();
    let denied: Vec<&Case> = cases.iter().step_by(2).collect();
    deny(&lab, &denied);
    let expected: Vec<bool> =
        cases.iter().map(|case| denied.iter().all(|denied| denied.rule() != case.rule())).collect();
    let flows: Vec<Flow> = cases.iter().map(|case| case.flow.clone()).cycle().take(20_000).collect();
    let start = Instant::now();
    let arrived = lab.shoot(&flows).unwrap();
    let elapsed = start.elapsed();
    assert!(arrived.iter().eq(expected.iter().cycle().take(20_000)));
    let rate = 20_000.0 / elapsed.as_secs_f64();
    println!("{rate:.0} shots per second");
    assert!(rate >= 2_000.0, "{rate:.0} shots per second");
}

#[test]
fn shots_stay_right_during_a_flood() {
    let (lab, cases) = bed();
    let denied: Vec<&Case> = cases.iter().step_by(2).collect();
    deny(&lab, &denied);
    let flows: Vec<Flow> = cases.iter().map(|case| case.flow.clone()).collect();
    // Enough traffic that the kernel defers work to its own threads, on every CPU.
    let [from, to] = ["b1", "b2"].map(|name| lab.node(1).pod(name).unwrap());
    let sinks = to.addresses().into_iter().map(|at| Sink::open(&to, at, 7000).unwrap()).collect::<Vec<_>>();
    let floods: Vec<Flood> =
        to.addresses().into_iter().map(|at| Flood::start(&Flow::udp(&from, at, 7000), None).unwrap()).collect();
    for _ in 0..100 {
        for (case, arrived) in cases.iter().zip(lab.shoot(&flows).unwrap()) {
            let is_denied = denied.iter().any(|denied| denied.rule() == case.rule());
            assert_eq!(arrived, !is_denied, "{}", case.flow);
        }
    }
    let sent: u64 = floods.into_iter().map(|flood| flood.stop().sent).sum();
    assert!(sent > 10_000, "{sent} datagrams are not a flood");
    drop(sinks);
}

#[test]
fn a_shot_without_a_route_or_with_mixed_families_is_reported() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let a = lab.node(1).add_pod("a").unwrap();
    // No host has this address: the packet ends in the fabric.
    let nowhere = Flow::udp(&a, [192, 0, 2, 1], PORT);
    assert_eq!(lab.shoot(std::slice::from_ref(&nowhere)).unwrap(), [false]);
    assert_eq!(probe_all(&[nowhere], Duration::from_millis(50)).unwrap(), [Outcome::Unreachable]);
    let mixed = Flow::udp(&a, a.ipv6().unwrap(), PORT).from_address(a.ipv4().unwrap());
    assert!(matches!(lab.shoot(&[mixed]), Err(Error::FamilyMismatch { .. })));
}
