//! 1.1 clause 2, 1.6 and section 4: the pod's own node, and the pod itself.

use super::*;

/// Everything of namespaces a and b is isolated in both directions.
fn isolated() -> Cluster {
    Cluster::new().with(policy("a/p", "ie")).with(policy("b/q", "ie"))
}

#[test]
fn the_own_node_reaches_its_pods_by_name_and_by_ip() {
    let mut cluster = isolated().pod("a/host", |pod| {
        pod.host_network = true;
        pod.node = Some("n1".into());
        pod.addresses.v4 = Some("172.30.0.11".parse().unwrap());
    });
    cluster.facts.addresses.insert("n1".into(), [ip("10.42.1.254"), ip("fd00:30::11")].into());
    for client in ["node/n1", "172.30.0.11", "10.42.1.254", "fd00:30::11", "a/host"] {
        cluster.check(&[(client, "a/x", "tcp/80", "-", "own-node"), (client, "a/y", "icmp", "-", "own-node")]);
        cluster.check(&[(client, "b/x", "tcp/80", "-", "!q")]);
    }
    cluster.check(&[
        ("node/n2", "a/x", "tcp/80", "-", "!p"),
        ("172.30.0.12", "a/x", "tcp/80", "-", "!p"),
        ("node/unknown", "a/x", "tcp/80", "-", "!p"),
        ("172.30.0.12", "b/x", "tcp/80", "-", "own-node"),
    ]);
    // "Not isolated" takes precedence.
    Cluster::new().check(&[("node/n1", "a/x", "tcp/80", "-", "open")]);
}

#[test]
fn a_host_network_pod_without_status_is_its_nodes() {
    let cluster = isolated().pod("b/host", |pod| (pod.host_network, pod.node) = (true, Some("n1".into())));
    cluster.check(&[("b/host", "a/x", "tcp/80", "-", "own-node"), ("b/host", "b/x", "tcp/80", "-", "!q")]);
    let by_address = isolated().pod("b/host", |pod| {
        (pod.host_network, pod.node) = (true, Some("n1".into()));
        pod.addresses.v4 = Some("172.30.0.99".parse().unwrap());
    });
    by_address.check(&[("172.30.0.99", "a/x", "tcp/80", "-", "own-node"), ("172.30.0.99", "b/x", "tcp/80", "-", "!q")]);
}

#[test]
fn a_node_without_a_name_is_known_by_its_ips() {
    let host = |node: Option<&str>| {
        let node = node.map(Into::into);
        isolated().pod("b/host", |pod| {
            (pod.host_network, pod.node) = (true, node);
            pod.host_addresses = vec![ip("172.30.0.11")];
        })
    };
    host(None).check(&[("b/host", "a/x", "tcp/80", "-", "own-node"), ("b/host", "b/x", "tcp/80", "-", "!q")]);
    // Two different names are two nodes.
    host(Some("n3")).check(&[("b/host", "a/x", "tcp/80", "-", "!p")]);
    let nameless = || isolated().pod("a/x", |pod| pod.node = None);
    nameless().check(&[("node/n1", "a/x", "tcp/80", "-", "own-node"), ("node/n2", "a/x", "tcp/80", "-", "!p")]);
    let mut two = nameless();
    two.facts.addresses.insert("n1".into(), [ip("172.30.0.1")].into());
    two.check(&[("node/n1", "a/x", "tcp/80", "-", "own-node"), ("172.30.0.1", "a/x", "tcp/80", "-", "!p")]);
}

#[test]
fn a_pod_is_never_a_node_whatever_its_ip() {
    let cluster = isolated().pod("b/y", |pod| pod.addresses.v4 = Some("172.30.0.11".parse().unwrap()));
    cluster.check(&[("b/y", "a/x", "tcp/80", "!q", "!p"), ("172.30.0.11", "a/x", "tcp/80", "!q", "!p")]);
    cluster.check(&[("node/n1", "a/x", "tcp/80", "-", "own-node")]);
}

#[test]
fn to_other_pods_a_node_is_its_ip() {
    let blocks = from(vec![block("172.30.0.12/32", &[]), block("fd00:30::12/128", &[])]);
    let mut cluster = Cluster::new().with(blocks);
    cluster.check_ingress(&[("node/n2", "p[0]"), ("172.30.0.12", "p[0]"), ("node/n1", "own-node"), ("node/n3", "!p")]);
    // The smallest one counts.
    cluster.facts.addresses.insert("n2".into(), [ip("172.30.0.2")].into());
    cluster.check_ingress(&[("node/n2", "!p")]);
    // A family without a known IP: nothing for a block to match.
    cluster.state.apply(Change::Pod(Pod { node: Some("n1".into()), ..pod("a/x") }));
    cluster.check_ingress(&[("node/n2", "!p")]);
    let six = Cluster::new().with(from(vec![block("::/0", &[])])).pod("a/x", |pod| pod.addresses.v4 = None);
    six.check_ingress(&[("node/n2", "!p"), ("node/n1", "own-node")]);
    let mut known = six;
    known.facts.addresses.insert("n2".into(), [ip("fd00:30::12")].into());
    known.check_ingress(&[("node/n2", "p[0]")]);
    // No selector matches a node.
    let selectors = from(vec![own(all()), anywhere(all(), all())]);
    Cluster::new().with(selectors).check_ingress(&[("node/n2", "!p")]);
}

#[test]
fn egress_to_the_own_node_is_judged_unless_exempted() {
    let mut cluster = isolated();
    cluster.check(&[("a/x", "172.30.0.11", "tcp/22", "!p", "-"), ("a/x", "172.30.0.12", "tcp/22", "!p", "-")]);
    cluster.facts.allow_egress_to_own_node = true;
    cluster.check(&[
        ("a/x", "172.30.0.11", "tcp/22", "to-own-node", "-"),
        ("a/x", "172.30.0.12", "tcp/22", "!p", "-"),
        ("a/x", "a/y", "tcp/80", "!p", "!p"),
    ]);
    let mut open = Cluster::new();
    open.facts.allow_egress_to_own_node = true;
    open.check(&[("a/x", "172.30.0.11", "tcp/22", "open", "-")]);
    let to_node = Policy {
        egress: vec![Rule { peers: Peers::Of(vec![block("172.30.0.11/32", &[])]), ports: Ports::Any }],
        ..policy("a/p", "e")
    };
    Cluster::new().with(to_node).check(&[("a/x", "172.30.0.11", "tcp/22", "p[0]", "-")]);
}

#[test]
fn a_pod_reaches_itself() {
    isolated().check(&[
        ("a/x", "a/x", "tcp/80", "self", "self"),
        ("a/x", "10.42.1.1", "icmp", "self", "self"),
        ("fd42:1::1", "a/x", "udp/9", "self", "self"),
        ("a/x", "a/y", "tcp/80", "!p", "!p"),
        ("9.9.9.9", "9.9.9.9", "tcp/80", "-", "-"),
    ]);
    Cluster::new().check(&[("a/x", "a/x", "tcp/80", "self", "self")]);
}
