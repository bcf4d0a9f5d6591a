//! 1.5 and section 4: which pod has an IP, pods without one, families.

use super::*;

fn v4(text: &str) -> Option<std::net::Ipv4Addr> {
    text.parse().ok()
}

#[test]
fn the_ip_of_a_live_pod_is_the_pod() {
    let cluster = Cluster::new().with(from(vec![own(app("y"))]));
    cluster.check(&[
        ("10.42.1.2", "10.42.1.1", "tcp/80", "open", "p[0]"),
        ("fd42:1::2", "fd42:1::1", "tcp/80", "open", "p[0]"),
        ("10.42.2.2", "10.42.1.1", "tcp/80", "open", "!p"),
        ("10.42.1.3", "10.42.1.1", "tcp/80", "-", "!p"),
    ]);
}

#[test]
fn finished_and_host_network_pods_are_neither_subject_nor_peer() {
    let edits: [fn(&mut Pod); 3] =
        [|pod| pod.phase = Phase::Succeeded, |pod| pod.phase = Phase::Failed, |pod| pod.host_network = true];
    for edit in edits {
        let peers = vec![own(all()), anywhere(all(), all()), block("10.42.2.2/32", &[])];
        let cluster = Cluster::new().with(from(peers)).with(policy("b/q", "ie")).pod("b/x", edit).pod("b/y", edit);
        cluster.check(&[
            // No selector matches b/x; b/y's IP is in the block.
            ("b/x", "a/x", "tcp/80", "-", "!p"),
            ("b/y", "a/x", "tcp/80", "-", "p[0]"),
            ("10.42.2.1", "a/x", "tcp/80", "-", "!p"),
            ("a/x", "b/x", "tcp/80", "open", "-"),
        ]);
        // Nor is a port name resolved on them.
        let ports = Ports::Of(vec![Port::Named { protocol: Protocol::Tcp, name: "web".into() }]);
        let egress = Policy { egress: vec![Rule { peers: Peers::Any, ports }], ..policy("a/p", "e") };
        Cluster::new().with(egress).pod("b/x", edit).check(&[("a/x", "b/x", "tcp/80", "!p", "-")]);
    }
}

#[test]
fn a_finished_pod_means_its_ip_even_if_another_pod_has_it_now() {
    let cluster = Cluster::new()
        .with(from(vec![own(app("y"))]))
        .pod("b/x", |pod| (pod.phase, pod.addresses.v4) = (Phase::Failed, v4("10.42.1.2")))
        .pod("b/y", |pod| (pod.phase, pod.addresses) = (Phase::Succeeded, crate::input::Addresses::default()));
    cluster.check_ingress(&[("b/x", "p[0]"), ("b/y", "!p")]);
    let block_only = Cluster::new()
        .with(from(vec![block("0.0.0.0/0", &[])]))
        .pod("b/y", |pod| (pod.phase, pod.addresses) = (Phase::Succeeded, crate::input::Addresses::default()));
    block_only.check_ingress(&[("b/y", "!p"), ("b/x", "p[0]")]);
}

#[test]
fn pending_unknown_and_terminating_pods_are_enforced_and_peers() {
    let edits: [fn(&mut Pod); 3] =
        [|pod| pod.phase = Phase::Pending, |pod| pod.phase = Phase::Unknown, |pod| pod.terminating = true];
    for edit in edits {
        let cluster = Cluster::new().with(from(vec![own(app("y"))])).pod("a/x", edit).pod("a/y", edit);
        cluster.check_ingress(&[("a/y", "p[0]"), ("b/x", "!p")]);
    }
}

#[test]
fn an_ip_that_a_starting_pod_may_have() {
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let mut cluster = Cluster::new().with(policy("a/locked", "e")).pod("a/new", |pod| pod.node = Some("n1".into()));
    cluster.facts.pod_ranges = [("n1".into(), ranges(&["10.42.1.0/24", "fd42:1::/64"]))].into();
    cluster.facts.pod_ranges.insert("n2".into(), ranges(&["10.42.2.0/24"]));
    cluster.facts.addresses = [("n1".into(), [ip("10.42.1.254")].into())].into();
    cluster.check(&[
        // The policy of namespace a isolates all of its pods for egress. An IP that no pod has may be a/new's.
        ("10.42.1.9", "b/x", "tcp/80", "!starting new", "open"),
        ("fd42:1::9", "b/x", "tcp/80", "!starting new", "open"),
        ("10.42.1.9", "9.9.9.9", "-", "!starting new", "-"),
        ("10.42.1.9", "172.30.0.11", "tcp/80", "!starting new", "-"),
        ("b/x", "10.42.1.9", "tcp/80", "open", "-"),
        // Known pods of the node, the node's own IP, another node's range: no pod is starting there.
        ("a/y", "b/x", "tcp/80", "!locked", "open"),
        ("10.42.1.254", "b/x", "tcp/80", "-", "open"),
        ("10.42.2.9", "b/x", "tcp/80", "-", "open"),
        ("9.9.9.9", "b/x", "tcp/80", "-", "open"),
    ]);
    // For ingress too, but the pod's own node always reaches it.
    let mut cluster = cluster.with(policy("a/closed", "i"));
    cluster.check(&[
        ("b/x", "10.42.1.9", "tcp/80", "open", "!starting new"),
        ("10.42.1.9", "10.42.1.9", "tcp/80", "!starting new", "!starting new"),
        ("node/n1", "10.42.1.9", "tcp/80", "-", "own-node"),
        ("node/n2", "10.42.1.9", "tcp/80", "-", "!starting new"),
    ]);
    cluster.facts.allow_egress_to_own_node = true;
    cluster.check(&[("10.42.1.9", "172.30.0.11", "tcp/80", "to-own-node", "-")]);
    // Nor does a pod have an IP while its sandbox is recreated; a terminating one gets no new IP.
    let recreated = |edit: fn(&mut Pod)| {
        Cluster { state: cluster.state.clone(), facts: cluster.facts.clone() }
            .pod("a/new", |pod| pod.phase = Phase::Failed)
            .pod("a/y", |pod| pod.awaits_network = true)
            .pod("a/y", edit)
    };
    recreated(|_| {})
        .check(&[("10.42.1.10", "b/x", "tcp/80", "!starting y", "open"), ("a/y", "b/x", "tcp/80", "!locked", "open")]);
    recreated(|pod| pod.terminating = true).check(&[("10.42.1.10", "b/x", "tcp/80", "-", "open")]);
    // Nothing is blocked once the pod has an IP, finishes without one, is hostNetwork, or runs on another node.
    let ends: [fn(&mut Pod); 4] = [
        |pod| pod.addresses.v4 = v4("10.42.1.9"),
        |pod| pod.phase = Phase::Failed,
        |pod| pod.host_network = true,
        |pod| pod.node = Some("n2".into()),
    ];
    for end in ends {
        let cluster = Cluster { state: cluster.state.clone(), facts: cluster.facts.clone() }.pod("a/new", end);
        cluster.check(&[("10.42.1.10", "b/x", "tcp/80", "-", "open")]);
    }
}

#[test]
fn a_pod_without_an_ip_is_judged_by_selectors_alone() {
    let bare = |cluster: Cluster| {
        cluster.pod("a/n", |pod| {
            pod.labels = labels(&[("app", "n")]);
            pod.ports = vec![port("web", Protocol::Tcp, 80)];
        })
    };
    let cluster = bare(Cluster::new().with(from(vec![own(app("n")), anywhere(all(), app("y"))])));
    cluster.check(&[
        ("a/n", "a/x", "tcp/80", "open", "p[0]"),
        ("b/y", "a/n", "tcp/80", "open", "p[0]"),
        ("fd42:2::1", "a/n", "tcp/80", "open", "!p"),
        ("a/n", "a/n", "tcp/80", "self", "self"),
    ]);
    // Two such pods are still two pods.
    bare(Cluster::new().with(policy("a/p", "ie")))
        .pod("a/m", |_| {})
        .check(&[("a/n", "a/m", "tcp/80", "!p", "!p"), ("node/n9", "a/m", "tcp/80", "-", "!p")]);
    // No block matches it as a peer; blocks still match the other end.
    let cluster = bare(Cluster::new().with(from(vec![block("0.0.0.0/0", &[]), block("::/0", &[])])));
    cluster.check(&[("a/n", "a/x", "tcp/80", "open", "!p"), ("9.9.9.9", "a/n", "tcp/80", "-", "p[0]")]);
    // Its ports are resolved.
    let ports = Ports::Of(vec![Port::Named { protocol: Protocol::Tcp, name: "web".into() }]);
    let rule = Rule { peers: Peers::Any, ports };
    let both = Policy { ingress: vec![rule.clone()], egress: vec![rule], ..policy("a/p", "ie") };
    bare(Cluster::new().with(both))
        .check(&[("a/x", "a/n", "tcp/80", "p[0]", "p[0]"), ("a/x", "a/n", "tcp/81", "!p", "!p")]);
}

#[test]
fn of_two_claimants_the_one_that_stays_has_the_ip() {
    let cluster = Cluster::new()
        .with(from(vec![own(app("y"))]))
        .with(policy("b/q", "ie"))
        .pod("b/x", |pod| (pod.addresses.v4, pod.terminating) = (v4("10.42.1.2"), true));
    cluster.check(&[
        // The IP is a/y's, even if the query names another pod.
        ("10.42.1.2", "a/x", "tcp/80", "open", "p[0]"),
        ("b/x", "a/x", "tcp/80", "open", "p[0]"),
        ("a/y", "a/x", "tcp/80", "open", "p[0]"),
        ("b/x", "a/y", "tcp/80", "self", "self"),
        // Its other IP is its own.
        ("fd42:2::1", "a/x", "tcp/80", "!q", "!p"),
    ]);
}

/// a/y and b/x claim one IP; `edit` changes both.
fn twice(edit: fn(&mut Pod)) -> Cluster {
    Cluster::new().pod("a/y", edit).pod("b/x", |pod| {
        pod.addresses.v4 = v4("10.42.1.2");
        edit(pod);
    })
}

#[test]
fn a_duplicate_ip_is_in_no_allow_set() {
    let edits: [fn(&mut Pod); 2] = [|_| {}, |pod| pod.terminating = true];
    for edit in edits {
        let selectors = from(vec![own(all()), anywhere(all(), all())]);
        twice(edit).with(selectors.clone()).check_ingress(&[("10.42.1.2", "!p"), ("a/y", "!p"), ("b/x", "!p")]);
        let with_block = Policy { pod_selector: app("x"), ..from(vec![own(all()), block("10.42.1.2/32", &[])]) };
        twice(edit).with(with_block).check_ingress(&[("10.42.1.2", "p[0]"), ("a/y", "p[0]")]);
        let any = Policy { pod_selector: app("x"), ingress: vec![anything()], ..policy("a/p", "i") };
        twice(edit).with(any).check_ingress(&[("a/y", "p[0]")]);
        // In the family without a duplicate, nothing changes.
        twice(edit).with(selectors).check_ingress(&[("fd42:1::2", "p[0]"), ("fd42:2::1", "p[0]")]);
        // No port name is resolved on it.
        let web = Port::Named { protocol: Protocol::Tcp, name: "web".into() };
        let rule = |port| Rule { peers: Peers::Any, ports: Ports::Of(vec![port]) };
        let by_name = Policy { pod_selector: app("x"), egress: vec![rule(web)], ..policy("a/p", "e") };
        twice(edit)
            .with(by_name)
            .check(&[("a/x", "a/y", "tcp/80", "!p", "open"), ("a/x", "fd42:1::2", "tcp/80", "p[0]", "open")]);
        let number = Port::Range { protocol: Protocol::Tcp, first: 80, last: 80 };
        let by_number = Policy { pod_selector: app("x"), egress: vec![rule(number)], ..policy("a/p", "e") };
        twice(edit).with(by_number).check(&[("a/x", "10.42.1.2", "tcp/80", "p[0]", "open")]);
    }
}

#[test]
fn a_duplicate_ip_is_isolated_if_either_pod_is() {
    let open = |key: &str, directions| Policy {
        ingress: vec![anything()],
        egress: vec![anything()],
        ..policy(key, directions)
    };
    twice(|_| {}).with(open("b/q", "i")).check(&[
        ("a/x", "10.42.1.2", "tcp/80", "open", "!twice y,x"),
        ("a/x", "a/y", "tcp/80", "open", "!twice y,x"),
        ("a/y", "a/x", "tcp/80", "open", "open"),
        ("a/x", "fd42:1::2", "tcp/80", "open", "open"),
        ("a/x", "fd42:2::1", "tcp/80", "open", "q[0]"),
    ]);
    twice(|_| {}).with(open("a/p", "e")).check(&[
        ("10.42.1.2", "9.9.9.9", "icmp", "!twice y,x", "-"),
        ("b/x", "b/y", "tcp/80", "!twice y,x", "open"),
        ("b/y", "b/x", "tcp/80", "open", "open"),
    ]);
    twice(|_| {}).check(&[("a/x", "10.42.1.2", "tcp/80", "open", "open")]);
    twice(|_| {}).with(policy("a/p", "ie")).check(&[
        ("a/y", "b/x", "tcp/80", "self", "self"),
        // Either pod's node is the own node.
        ("node/n1", "a/y", "tcp/80", "-", "own-node"),
        ("node/n2", "a/y", "tcp/80", "-", "own-node"),
    ]);
}

#[test]
fn a_pod_does_not_get_its_nodes_ip() {
    let cluster = Cluster::new()
        .with(policy("b/q", "ie"))
        .with(policy("a/p", "i"))
        .pod("b/x", |pod| pod.addresses.v4 = v4("172.30.0.12"));
    cluster.check(&[("172.30.0.12", "a/x", "tcp/80", "-", "!p"), ("b/x", "172.30.0.11", "tcp/80", "-", "-")]);
}

#[test]
fn the_family_is_the_clients_first_that_the_server_has() {
    let only6 = |cluster: Cluster, key| cluster.pod(key, |pod| pod.addresses.v4 = None);
    let rules = || from(vec![block("0.0.0.0/0", &[])]);
    Cluster::new().with(rules()).check_ingress(&[("b/x", "p[0]")]);
    only6(Cluster::new().with(rules()), "b/x").check_ingress(&[("b/x", "!p")]);
    only6(Cluster::new().with(rules()), "a/x").check_ingress(&[("b/x", "!p"), ("fd00::1", "!p")]);
    let cluster = Cluster::new().with(rules());
    // A node is represented by its known IP.
    let mut known6 = Cluster::new().with(from(vec![block("::/0", &[])]));
    known6.facts.addresses.insert("n9".into(), [ip("fd00:30::19")].into());
    known6.check_ingress(&[("node/n9", "p[0]"), ("node/n2", "!p")]);
    let asked = Flow { family: Some(Family::V6), ..flow("b/x", "a/x", "tcp/80") };
    assert_eq!(short(&evaluate(&cluster.state, &cluster.facts, &asked).unwrap().ingress), "!p");
}

#[test]
fn flows_that_cannot_be_judged() {
    let cluster = Cluster::new()
        .pod("a/four", |pod| pod.addresses.v4 = v4("10.42.1.40"))
        .pod("a/six", |pod| pod.addresses.v6 = Some("fd42:1::40".parse().unwrap()))
        .pod("a/none", |_| {});
    let none = |from: &str, to: &str| FlowError::NoSharedFamily { from: from.to_owned(), to: to.to_owned() };
    let missing = |end: &str, family| FlowError::FamilyMissing { end: end.to_owned(), family };
    assert_eq!(cluster.error("a/zzz", "a/x", None), FlowError::UnknownPod(name("a/zzz")));
    assert_eq!(cluster.error("a/x", "zzz/x", None), FlowError::UnknownPod(name("zzz/x")));
    assert_eq!(cluster.error("a/x", "node/n1", None), FlowError::NodeAsDestination("n1".into()));
    assert_eq!(cluster.error("a/four", "a/six", None), none("a/four", "a/six"));
    assert_eq!(cluster.error("9.9.9.9", "a/six", None), none("9.9.9.9", "a/six"));
    assert_eq!(cluster.error("a/x", "a/four", Some(Family::V6)), missing("a/four", Family::V6));
    assert_eq!(cluster.error("9.9.9.9", "a/x", Some(Family::V6)), missing("9.9.9.9", Family::V6));
    cluster.check(&[
        ("a/none", "a/six", "tcp/80", "open", "open"),
        ("a/six", "a/none", "tcp/80", "open", "open"),
        ("a/x", "a/six", "tcp/80", "open", "open"),
    ]);
}

#[test]
fn the_ends_of_a_flow_are_resolved() {
    let cluster = Cluster::new();
    let reference = Reference::new(&cluster.state, &cluster.facts);
    let flow = flow("a/x", "fd42:2::1", "icmp");
    let ends = reference.ends(&flow).unwrap();
    assert_eq!((ends.family, ends.from.address), (Some(Family::V6), Some(ip("fd42:1::1"))));
    assert_eq!(ends.to.the_pod().map(|pod| pod.key.clone()), Some(name("b/x")));
}
