//! Real packets get the expected verdict, in a cluster small enough to remember. Generated ones are in
//! `tests/it/differential.rs`.
//!
//! Seen to fail when: rules compare the port before Service translation; the input hook does not judge egress; a pod
//! may not reach itself; an egress chain accepts instead of returning to the ingress maps.

use std::net::IpAddr;
use std::time::Duration;

use crate::common::driven::Driven;
use crate::common::objects;
use palisade_lab::{
    Family as LabFamily, Flow as Shot, Lab, Layout, Listen, Namespace, Outcome, Pod, Protocol as LabProtocol, Service,
    probe_all,
};
use palisade_policy::input::{Change, Protocol, State};
use palisade_ruleset::render::Options;

/// `--allow-egress-to-own-node`: the pod's own node, and nothing else.
#[test]
fn egress_to_the_own_node_may_be_allowed() {
    let lab = Lab::builder().nodes(2, Layout::Bridge).build().unwrap();
    let [locked, neighbour] = ["desk/locked", "desk/neighbour"].map(|name| lab.node(1).add_pod(name).unwrap());
    neighbour.serve(&[Listen::tcp(80)]).unwrap();
    lab.nodes().iter().for_each(|node| node.serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap());
    let mut state = State::default();
    state.apply(Change::Namespace(objects::namespace("desk", &[])));
    state.apply(Change::Pod(objects::pod("desk/locked", "node-1", &[("app", "locked")], &locked.addresses())));
    state.apply(Change::Pod(objects::pod("desk/neighbour", "node-1", &[], &neighbour.addresses())));
    state.apply(Change::Policy(objects::egress(objects::policy("desk/locked", &[("app", "locked")]), vec![])));
    for lifted in [false, true] {
        let options = Options { allow_egress_to_own_node: lifted, ..Options::default() };
        let _enforcer = Driven::start_with(lab.node(1), &state, &options);
        for family in [LabFamily::V4, LabFamily::V6] {
            let (own, other) = (lab.node(1).address(family), lab.node(2).address(family));
            let flows = [
                Shot::new(&locked, LabProtocol::Tcp, own, 80),
                Shot::new(&locked, LabProtocol::Udp, own, 80),
                Shot::new(&locked, LabProtocol::Tcp, other, 80),
                Shot::new(&locked, LabProtocol::Tcp, neighbour.address(family).unwrap(), 80),
            ];
            let outcomes = probe_all(&flows, Duration::from_secs(1)).unwrap();
            let reached: Vec<_> = outcomes.into_iter().map(Outcome::is_reachable).collect();
            assert_eq!(reached, [lifted, lifted, false, false], "{family:?}");
        }
    }
}

/// A cluster as one would sketch it, with sockets instead of crafted packets.
#[test]
fn a_small_cluster_by_hand() {
    use LabProtocol::{Icmp, Sctp, Tcp, Udp};

    let lab = Lab::builder().nodes(2, Layout::Bridge).build().unwrap();
    let place = |node: usize, name: &str| lab.node(node).add_pod(name).unwrap();
    let (web, front, other) = (place(1, "shop/web"), place(1, "shop/front"), place(1, "shop/other"));
    let (far, locked) = (place(2, "desk/far"), place(1, "desk/locked"));
    for server in [&web, &front, &other, &far, &locked] {
        server.serve(&[Listen::tcp(80), Listen::tcp(81), Listen::udp(80), Listen::sctp(80)]).unwrap();
    }
    lab.node(1).serve(&[Listen::tcp(80), Listen::udp(80)]).unwrap();
    let service: [IpAddr; 2] = ["10.96.0.9".parse().unwrap(), "fd96::9".parse().unwrap()];
    lab.add_service(Service::new("web", (LabProtocol::Tcp, 8000), &service, (&web, 80))).unwrap();

    let mut state = State::default();
    let changes = [
        Change::Namespace(objects::namespace("shop", &[("team", "shop")])),
        Change::Namespace(objects::namespace("desk", &[("team", "desk")])),
        Change::Pod(objects::pod("shop/web", "node-1", &[("app", "web")], &web.addresses())),
        Change::Pod(objects::pod("shop/front", "node-1", &[("app", "front")], &front.addresses())),
        Change::Pod(objects::pod("shop/other", "node-1", &[("app", "other")], &other.addresses())),
        Change::Pod(objects::pod("desk/far", "node-2", &[("app", "far")], &far.addresses())),
        Change::Pod(objects::pod("desk/locked", "node-1", &[("app", "locked")], &locked.addresses())),
        // The web server: port 80 of TCP for the front, everything for the other team.
        Change::Policy(objects::ingress(
            objects::policy("shop/web", &[("app", "web")]),
            vec![
                objects::rule(vec![objects::pods(&[("app", "front")])], vec![objects::port(Protocol::Tcp, 80)]),
                objects::rule(vec![objects::namespaces(&[("team", "desk")])], vec![]),
            ],
        )),
        // A pod that may open nothing and that no pod may reach.
        Change::Policy(objects::egress(objects::ingress(objects::policy("desk/locked", &[]), vec![]), vec![])),
        // ... but its neighbour may.
        Change::Policy(objects::egress(
            objects::ingress(objects::policy("desk/far", &[("app", "far")]), vec![]),
            vec![objects::rule(vec![], vec![])],
        )),
    ];
    changes.into_iter().for_each(|change| state.apply(change));
    let _enforcers: Vec<_> =
        lab.nodes().iter().map(|node| Driven::start_with(node, &state, &Options::default())).collect();
    let mut probes = Vec::new();
    let mut expected = Vec::new();
    let node = lab.node(1);
    for (number, family) in [LabFamily::V4, LabFamily::V6].into_iter().enumerate() {
        let of = |pod: &Pod| pod.address(family).unwrap();
        let service = service[number];
        let rows: [(&Namespace, LabProtocol, IpAddr, u16, bool); 26] = [
            (front.namespace(), Tcp, of(&web), 80, true),
            (front.namespace(), Tcp, of(&web), 81, false),
            (front.namespace(), Udp, of(&web), 80, false),
            (front.namespace(), Sctp, of(&web), 80, false),
            (front.namespace(), Icmp, of(&web), 0, false),
            (front.namespace(), Tcp, service, 8000, true),
            (other.namespace(), Tcp, of(&web), 80, false),
            (other.namespace(), Tcp, service, 8000, false),
            (other.namespace(), Tcp, of(&front), 80, true),
            (far.namespace(), Tcp, of(&web), 81, true),
            (far.namespace(), Sctp, of(&web), 80, true),
            (far.namespace(), Icmp, of(&web), 0, true),
            (far.namespace(), Tcp, service, 8000, true),
            // Replies of a flow that web opens pass, although no pod may connect to far.
            (web.namespace(), Tcp, of(&front), 80, true),
            (web.namespace(), Tcp, of(&far), 80, false),
            // Itself: directly and through its own Service.
            (web.namespace(), Tcp, of(&web), 81, true),
            (web.namespace(), Tcp, service, 8000, true),
            // A node reaches every pod of its own, isolated or not, and no isolated pod of another node.
            (node.namespace(), Tcp, of(&web), 81, true),
            (node.namespace(), Udp, of(&web), 80, true),
            (node.namespace(), Tcp, of(&locked), 80, true),
            (node.namespace(), Udp, of(&locked), 80, true),
            (node.namespace(), Icmp, of(&locked), 0, true),
            (node.namespace(), Tcp, of(&far), 80, false),
            // A pod's egress to its own node is judged like any other.
            (locked.namespace(), Tcp, node.address(family), 80, false),
            (locked.namespace(), Udp, node.address(family), 80, false),
            (web.namespace(), Tcp, node.address(family), 80, true),
        ];
        for (from, protocol, to, port, reachable) in rows {
            probes.push(Shot::new(from, protocol, to, port));
            expected.push(reachable);
        }
    }
    let outcomes = probe_all(&probes, Duration::from_millis(1_000)).unwrap();
    for ((probe, outcome), reachable) in probes.iter().zip(outcomes).zip(expected) {
        let wanted = if reachable { Outcome::Reachable } else { Outcome::Unreachable };
        assert_eq!(outcome, wanted, "{probe}");
    }
}
