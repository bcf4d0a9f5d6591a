//! 1.2 and 1.3: peers.

use super::*;

#[test]
fn a_pod_selector_alone_selects_in_the_policys_namespace() {
    let cluster = Cluster::new().with(from(vec![own(all())]));
    cluster.check_ingress(&[("a/y", "p[0]"), ("b/x", "!p"), ("9.9.9.9", "!p"), ("172.30.0.12", "!p")]);
    let cluster = Cluster::new().with(from(vec![own(app("y"))]));
    cluster.check_ingress(&[("a/y", "p[0]"), ("b/y", "!p")]);
}

#[test]
fn a_namespace_selector_alone_selects_all_pods_there() {
    let blue = || LabelSelector::labels([("team", "blue")]);
    let cluster = Cluster::new().with(from(vec![anywhere(blue(), all())]));
    cluster.check_ingress(&[("b/x", "p[0]"), ("b/y", "p[0]"), ("a/y", "!p"), ("9.9.9.9", "!p")]);
    let cluster = Cluster::new().with(from(vec![anywhere(all(), all())]));
    cluster.check_ingress(&[("b/x", "p[0]"), ("a/y", "p[0]"), ("9.9.9.9", "!p"), ("10.42.1.77", "!p")]);
    let named = LabelSelector::labels([("kubernetes.io/metadata.name", "b")]);
    let cluster = Cluster::new().with(from(vec![anywhere(named, all())]));
    cluster.check_ingress(&[("b/x", "p[0]"), ("a/y", "!p")]);
}

#[test]
fn one_item_means_and_two_items_mean_or() {
    let blue = || LabelSelector::labels([("team", "blue")]);
    let cluster = Cluster::new().with(from(vec![anywhere(blue(), app("y"))]));
    cluster.check_ingress(&[("b/y", "p[0]"), ("b/x", "!p"), ("a/y", "!p")]);
    let cluster = Cluster::new().with(from(vec![anywhere(blue(), all()), own(app("y"))]));
    cluster.check_ingress(&[("b/y", "p[0]"), ("b/x", "p[0]"), ("a/y", "p[0]"), ("9.9.9.9", "!p")]);
}

#[test]
fn no_namespace_selector_matches_an_unseen_namespace() {
    let orphans = |policy: Policy| {
        let place = |pod: &mut Pod, last| pod.addresses.v4 = Some(std::net::Ipv4Addr::new(10, 42, 1, last));
        Cluster::new().pod("c/x", |pod| place(pod, 30)).pod("c/y", |pod| place(pod, 31)).with(policy)
    };
    let absent = requirement("team", Operator::DoesNotExist);
    let cluster = orphans(from(vec![anywhere(all(), all()), anywhere(absent, all())]));
    cluster.check_ingress(&[("c/x", "!p"), ("10.42.1.30", "!p")]);
    // Its own policies still isolate it, and a podSelector of its own namespace still matches its pods.
    let rule = Rule { peers: Peers::Of(vec![own(all())]), ports: Ports::Any };
    let cluster = orphans(Policy { ingress: vec![rule], ..policy("c/p", "i") });
    cluster.check(&[("c/y", "c/x", "tcp/80", "open", "p[0]"), ("a/x", "c/x", "tcp/80", "open", "!p")]);
}

#[test]
fn an_ip_block_matches_the_ip_of_any_pod() {
    let cluster = Cluster::new().with(from(vec![block("10.42.2.0/31", &[]), block("fd42:2::2/128", &[])]));
    cluster.check_ingress(&[("b/x", "p[0]"), ("10.42.2.1", "p[0]"), ("b/y", "!p"), ("10.42.2.0", "p[0]")]);
    cluster.check(&[
        ("fd42:2::1", "a/x", "tcp/80", "open", "!p"),
        ("fd42:2::2", "a/x", "tcp/80", "open", "p[0]"),
        ("fd42:2::3", "a/x", "tcp/80", "-", "!p"),
    ]);
}

#[test]
fn an_except_narrows_its_own_block_only() {
    let narrowed = || block("9.0.0.0/8", &["9.9.0.0/16", "9.9.9.0/24", "9.8.0.0/16"]);
    let cluster = Cluster::new().with(from(vec![narrowed()]));
    cluster.check_ingress(&[
        ("8.255.255.255", "!p"),
        ("9.0.0.0", "p[0]"),
        ("9.7.255.255", "p[0]"),
        ("9.8.0.0", "!p"),
        ("9.8.255.255", "!p"),
        ("9.9.9.9", "!p"),
        ("9.10.0.0", "p[0]"),
        ("9.255.255.255", "p[0]"),
        ("10.0.0.0", "!p"),
    ]);
    // The other block allows 9.8.0.0/16 again, but not 9.9.0.0/16.
    let cluster = Cluster::new().with(from(vec![narrowed(), block("9.8.1.0/24", &[])]));
    cluster.check_ingress(&[("9.8.1.255", "p[0]"), ("9.8.2.0", "!p"), ("9.9.1.0", "!p")]);
    let cluster = Cluster::new().with(from(vec![block("9.0.0.0/8", &["0.0.0.0/0"])]));
    cluster.check_ingress(&[("9.0.0.1", "!p")]);
}

#[test]
fn blocks_at_the_ends_of_the_address_space() {
    let cluster = Cluster::new().with(from(vec![block("0.0.0.0/0", &["255.255.255.254/31"])]));
    cluster.check_ingress(&[("0.0.0.0", "p[0]"), ("255.255.255.253", "p[0]"), ("255.255.255.255", "!p")]);
    cluster.check_ingress(&[("2001:db8::1", "!p")]);
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let cluster = Cluster::new().with(from(vec![block("::/0", &["ffff::/16"]), block(&format!("{last}/128"), &[])]));
    cluster.check_ingress(&[("::", "p[0]"), ("fe80::1", "p[0]"), ("ffff::", "!p"), (last, "p[0]"), ("9.9.9.9", "!p")]);
    let cluster = Cluster::new().with(from(vec![block("255.255.255.255/32", &[])]));
    cluster.check_ingress(&[("255.255.255.255", "p[0]"), ("255.255.255.254", "!p")]);
}

#[test]
fn an_unmatchable_peer_matches_nothing() {
    let cluster = Cluster::new().with(from(vec![Peer::Unmatchable]));
    cluster.check_ingress(&[("a/y", "!p"), ("9.9.9.9", "!p")]);
    Cluster::new().with(from(vec![Peer::Unmatchable, own(all())])).check_ingress(&[("a/y", "p[0]")]);
}

#[test]
fn egress_peers_match_the_server() {
    let rule = Rule { peers: Peers::Of(vec![anywhere(all(), app("y")), block("9.9.9.9/32", &[])]), ports: Ports::Any };
    let cluster = Cluster::new().with(Policy { egress: vec![rule], ..policy("a/p", "e") });
    cluster.check(&[
        ("a/x", "a/y", "tcp/80", "p[0]", "open"),
        ("a/x", "b/y", "icmp", "p[0]", "open"),
        ("a/x", "b/x", "tcp/80", "!p", "open"),
        ("a/x", "9.9.9.9", "tcp/80", "p[0]", "-"),
        ("a/x", "9.9.9.8", "tcp/80", "!p", "-"),
        ("b/y", "b/x", "tcp/80", "open", "open"),
    ]);
}
