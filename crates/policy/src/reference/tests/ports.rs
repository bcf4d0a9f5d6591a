//! 1.4 and the last rows of 1.2: ports and protocols.

use super::*;

fn range(protocol: Protocol, first: u16, last: u16) -> Port {
    Port::Range { protocol, first, last }
}

fn named(protocol: Protocol, name: &str) -> Port {
    Port::Named { protocol, name: name.into() }
}

/// An egress policy of namespace a with one rule.
fn to(peers: Peers, ports: Vec<Port>) -> Policy {
    Policy { egress: vec![Rule { peers, ports: Ports::Of(ports) }], ..policy("a/p", "e") }
}

#[test]
fn a_protocol_without_port_is_all_its_ports_and_nothing_else() {
    let cluster = Cluster::new().with(on(vec![Port::All(Protocol::Udp)]));
    cluster.check(&[
        ("b/x", "a/x", "udp/1", "open", "p[0]"),
        ("b/x", "a/x", "udp/65535", "open", "p[0]"),
        ("b/x", "a/x", "tcp/1", "open", "!p"),
        ("b/x", "a/x", "sctp/1", "open", "!p"),
        ("b/x", "a/x", "icmp", "open", "!p"),
    ]);
}

#[test]
fn ranges_include_both_ends() {
    let cluster = Cluster::new().with(on(vec![
        range(Protocol::Tcp, 80, 80),
        range(Protocol::Tcp, 1000, 2000),
        range(Protocol::Sctp, 65535, 65535),
        range(Protocol::Udp, 1, 1),
    ]));
    cluster.check(&[
        ("b/x", "a/x", "tcp/79", "open", "!p"),
        ("b/x", "a/x", "tcp/80", "open", "p[0]"),
        ("b/x", "a/x", "tcp/81", "open", "!p"),
        ("b/x", "a/x", "tcp/999", "open", "!p"),
        ("b/x", "a/x", "tcp/1000", "open", "p[0]"),
        ("b/x", "a/x", "tcp/2000", "open", "p[0]"),
        ("b/x", "a/x", "tcp/2001", "open", "!p"),
        ("b/x", "a/x", "udp/80", "open", "!p"),
        ("b/x", "a/x", "udp/1", "open", "p[0]"),
        ("b/x", "a/x", "udp/2", "open", "!p"),
        ("b/x", "a/x", "sctp/65535", "open", "p[0]"),
        ("b/x", "a/x", "tcp/65535", "open", "!p"),
        ("b/x", "a/x", "icmp", "open", "!p"),
    ]);
}

#[test]
fn peers_and_ports_must_both_match() {
    let rule = Rule { peers: Peers::Of(vec![own(all())]), ports: Ports::Of(vec![range(Protocol::Tcp, 80, 80)]) };
    let cluster = Cluster::new().with(Policy { ingress: vec![rule], ..policy("a/p", "i") });
    cluster.check(&[
        ("a/y", "a/x", "tcp/80", "open", "p[0]"),
        ("a/y", "a/x", "tcp/81", "open", "!p"),
        ("b/x", "a/x", "tcp/80", "open", "!p"),
    ]);
}

#[test]
fn ingress_names_are_resolved_on_the_selected_pod() {
    let cluster = Cluster::new()
        .with(on(vec![named(Protocol::Tcp, "web")]))
        .pod("a/y", |pod| pod.ports = vec![port("web", Protocol::Tcp, 8080), port("web", Protocol::Udp, 53)])
        .pod("b/x", |pod| pod.ports = vec![port("web", Protocol::Tcp, 7000)]);
    cluster.check(&[
        ("b/x", "a/x", "tcp/80", "open", "p[0]"),
        ("b/x", "a/x", "tcp/8080", "open", "!p"),
        ("b/x", "a/x", "tcp/7000", "open", "!p"),
        ("b/x", "a/x", "udp/80", "open", "!p"),
        ("b/x", "a/y", "tcp/8080", "open", "p[0]"),
        ("b/x", "a/y", "tcp/80", "open", "!p"),
        ("b/x", "a/y", "tcp/53", "open", "!p"),
        ("b/x", "a/y", "udp/53", "open", "!p"),
    ]);
}

#[test]
fn a_name_can_mean_several_ports_and_only_with_its_protocol() {
    let several = vec![
        port("web", Protocol::Tcp, 80),
        port("web", Protocol::Tcp, 81),
        port("web", Protocol::Udp, 82),
        port("other", Protocol::Udp, 80),
    ];
    let cluster =
        Cluster::new().with(on(vec![named(Protocol::Udp, "web")])).pod("a/x", |pod| pod.ports = several.clone());
    cluster.check(&[
        ("b/x", "a/x", "udp/82", "open", "p[0]"),
        ("b/x", "a/x", "tcp/82", "open", "!p"),
        ("b/x", "a/x", "udp/80", "open", "!p"),
    ]);
    let cluster = Cluster::new().with(on(vec![named(Protocol::Tcp, "web")])).pod("a/x", |pod| pod.ports = several);
    cluster.check(&[
        ("b/x", "a/x", "tcp/80", "open", "p[0]"),
        ("b/x", "a/x", "tcp/81", "open", "p[0]"),
        ("b/x", "a/x", "tcp/82", "open", "!p"),
    ]);
}

#[test]
fn an_undeclared_port_name_matches_nothing() {
    let cluster = Cluster::new().with(on(vec![named(Protocol::Tcp, "nope")]));
    cluster.check(&[("b/x", "a/x", "tcp/80", "open", "!p"), ("b/x", "a/x", "icmp", "open", "!p")]);
}

#[test]
fn egress_names_are_resolved_on_the_server_in_any_namespace() {
    let cluster = Cluster::new()
        .with(to(Peers::Any, vec![named(Protocol::Tcp, "web")]))
        .pod("b/x", |pod| pod.ports = vec![port("web", Protocol::Tcp, 8080)])
        .pod("a/x", |pod| pod.ports = vec![port("web", Protocol::Tcp, 7000)]);
    cluster.check(&[
        ("a/x", "b/x", "tcp/8080", "p[0]", "open"),
        ("a/x", "b/x", "tcp/80", "!p", "open"),
        ("a/x", "b/x", "tcp/7000", "!p", "open"),
        ("a/x", "a/y", "tcp/80", "p[0]", "open"),
        ("a/x", "10.42.2.1", "tcp/8080", "p[0]", "open"),
        ("a/x", "9.9.9.9", "tcp/80", "!p", "-"),
        ("a/x", "9.9.9.9", "tcp/8080", "!p", "-"),
    ]);
    let only_y = Peers::Of(vec![anywhere(all(), app("y"))]);
    let cluster = Cluster::new().with(to(only_y, vec![named(Protocol::Tcp, "web")]));
    cluster.check(&[("a/x", "b/y", "tcp/80", "p[0]", "open"), ("a/x", "b/x", "tcp/80", "!p", "open")]);
}

#[test]
fn egress_names_to_a_block_resolve_on_pods_only() {
    let everywhere = Peers::Of(vec![block("0.0.0.0/0", &[])]);
    let cluster = Cluster::new().with(to(everywhere, vec![named(Protocol::Tcp, "web")]));
    cluster.check(&[("a/x", "9.9.9.9", "tcp/80", "!p", "-"), ("a/x", "b/x", "tcp/80", "p[0]", "open")]);
}

#[test]
fn an_unmatchable_port_matches_nothing() {
    let cluster = Cluster::new().with(on(vec![Port::Unmatchable]));
    cluster.check(&[("b/x", "a/x", "tcp/80", "open", "!p"), ("b/x", "a/x", "icmp", "open", "!p")]);
    let cluster = Cluster::new().with(on(vec![Port::Unmatchable, range(Protocol::Tcp, 80, 80)]));
    cluster.check(&[("b/x", "a/x", "tcp/80", "open", "p[0]"), ("b/x", "a/x", "tcp/81", "open", "!p")]);
}

#[test]
fn icmp_needs_a_rule_without_ports() {
    let every = Protocol::ALL.into_iter().flat_map(|protocol| [Port::All(protocol), range(protocol, 1, 65535)]);
    Cluster::new().with(on(every.collect())).check(&[("b/x", "a/x", "icmp", "open", "!p")]);
    Cluster::new()
        .with(from(vec![own(all())]))
        .check(&[("a/y", "a/x", "icmp", "open", "p[0]"), ("b/x", "a/x", "icmp", "open", "!p")]);
}
