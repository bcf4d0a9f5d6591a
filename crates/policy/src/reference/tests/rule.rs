//! 1.1 and 1.2: isolation, union, directions.

use super::*;

#[test]
fn without_a_policy_everything_passes() {
    Cluster::new().check(&[
        ("a/x", "b/x", "tcp/80", "open", "open"),
        ("a/x", "b/x", "icmp", "open", "open"),
        ("a/x", "9.9.9.9", "sctp/1", "open", "-"),
        ("9.9.9.9", "a/x", "udp/65535", "-", "open"),
        ("9.9.9.9", "8.8.8.8", "udp/53", "-", "-"),
    ]);
}

#[test]
fn directions_are_independent() {
    let ingress = Cluster::new().with(policy("a/p", "i"));
    ingress.check(&[
        ("b/x", "a/x", "tcp/80", "open", "!p"),
        ("9.9.9.9", "a/x", "icmp", "-", "!p"),
        ("a/x", "b/x", "tcp/80", "open", "open"),
        ("a/x", "a/y", "tcp/80", "open", "!p"),
    ]);
    let egress = Cluster::new().with(policy("a/p", "e"));
    egress.check(&[
        ("a/x", "b/x", "tcp/80", "!p", "open"),
        ("a/x", "9.9.9.9", "icmp", "!p", "-"),
        ("b/x", "a/x", "tcp/80", "open", "open"),
    ]);
    let both = Cluster::new().with(policy("a/p", "ie"));
    both.check(&[("a/x", "a/y", "tcp/80", "!p", "!p"), ("b/x", "a/x", "tcp/80", "open", "!p")]);
    let neither = Cluster::new().with(Policy { ingress: vec![anything()], ..policy("a/p", "") });
    neither.check(&[("b/x", "a/x", "tcp/80", "open", "open")]);
}

#[test]
fn a_policy_affects_only_the_pods_that_it_selects() {
    let cluster = Cluster::new().with(Policy { pod_selector: app("x"), ..policy("a/p", "i") });
    cluster.check(&[
        ("b/y", "a/x", "tcp/80", "open", "!p"),
        ("b/y", "a/y", "tcp/80", "open", "open"),
        ("a/y", "b/x", "tcp/80", "open", "open"),
    ]);
}

#[test]
fn rules_of_a_direction_not_in_policy_types_are_inert() {
    let cluster =
        Cluster::new().with(Policy { egress: vec![anything()], ..policy("a/p", "i") }).with(policy("a/q", "e"));
    cluster.check(&[("a/x", "b/x", "tcp/80", "!q", "open")]);
}

#[test]
fn the_empty_rule_allows_everything() {
    let cluster =
        Cluster::new().with(Policy { ingress: vec![anything()], egress: vec![anything()], ..policy("a/p", "ie") });
    cluster.check(&[
        ("9.9.9.9", "a/x", "icmp", "-", "p[0]"),
        ("b/x", "a/x", "sctp/9", "open", "p[0]"),
        ("a/x", "172.30.0.11", "udp/9", "p[0]", "-"),
    ]);
}

#[test]
fn policies_and_rules_are_additive_and_the_first_is_named() {
    let rule = |number| Rule {
        peers: Peers::Any,
        ports: Ports::Of(vec![Port::Range { protocol: Protocol::Tcp, first: number, last: number }]),
    };
    let cluster = Cluster::new()
        .with(policy("a/deny", "i"))
        .with(Policy { ingress: vec![rule(80), rule(81), rule(80)], ..policy("a/one", "i") })
        .with(Policy { ingress: vec![rule(82), rule(81)], ..policy("a/two", "i") })
        .with(Policy { ingress: vec![anything()], ..policy("b/other", "i") });
    cluster.check(&[
        ("b/x", "a/x", "tcp/80", "open", "one[0]"),
        ("b/x", "a/x", "tcp/81", "open", "one[1]"),
        ("b/x", "a/x", "tcp/82", "open", "two[0]"),
        ("b/x", "a/x", "tcp/83", "open", "!deny,one,two"),
    ]);
}

#[test]
fn both_ends_must_allow() {
    let allow = |key: &str| Policy { ingress: vec![anything()], egress: vec![anything()], ..policy(key, "ie") };
    let server_only = Cluster::new().with(policy("a/p", "e")).with(allow("b/q"));
    server_only.check(&[("a/x", "b/x", "tcp/80", "!p", "q[0]")]);
    let client_only = Cluster::new().with(allow("a/p")).with(policy("b/q", "i"));
    client_only.check(&[("a/x", "b/x", "tcp/80", "p[0]", "!q")]);
    Cluster::new().with(allow("a/p")).with(allow("b/q")).check(&[("a/x", "b/x", "tcp/80", "p[0]", "q[0]")]);
}

#[test]
fn tombstones_isolate_until_the_pods_are_gone() {
    let mut cluster = Cluster::new().with(policy("a/p", "i"));
    cluster.apply(Change::Namespace(Namespace { terminating: true, ..Namespace::new("a", labels(&[])) }));
    cluster.apply(Change::PolicyGone(name("a/p")));
    cluster.check(&[("b/x", "a/x", "tcp/80", "open", "!p")]);
    let mut kept = Cluster::new().with(policy("a/p", "i"));
    kept.apply(Change::PolicyGone(name("a/p")));
    kept.check(&[("b/x", "a/x", "tcp/80", "open", "open")]);
}

#[test]
fn selectors_need_every_requirement() {
    let cases = [
        (requirement("app", Operator::In(values(&["x", "z"]))), true, false),
        (requirement("app", Operator::NotIn(values(&["x"]))), false, true),
        (requirement("tier", Operator::NotIn(values(&["x"]))), true, true),
        (requirement("tier", Operator::DoesNotExist), true, true),
        (requirement("app", Operator::DoesNotExist), false, false),
        (requirement("app", Operator::Exists), true, true),
        (requirement("tier", Operator::Exists), false, false),
        (requirement("tier", Operator::In(values(&[""]))), false, false),
        (LabelSelector::labels([("app", "x"), ("tier", "db")]), false, false),
        (LabelSelector::labels([("app", "y")]), false, true),
        (all(), true, true),
    ];
    for (selector, selects_x, selects_y) in cases {
        let cluster = Cluster::new().with(Policy { pod_selector: selector, ..policy("a/p", "i") });
        let expected = |selects| if selects { "!p" } else { "open" };
        cluster.check(&[
            ("b/x", "a/x", "tcp/80", "open", expected(selects_x)),
            ("b/x", "a/y", "tcp/80", "open", expected(selects_y)),
        ]);
    }
}
