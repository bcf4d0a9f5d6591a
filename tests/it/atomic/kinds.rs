//! The kinds of change that are committed under traffic.

use std::net::IpAddr;

use super::{Bed, Kind, PORT};
use crate::common::objects::{
    Pairs, block, egress, ingress, key, namespace, namespaces, pod, pods, policy, port, rule,
};
use palisade_policy::input::{Change, Pod, Policy, Protocol, Rule};

/// All kinds of changes.
pub(super) fn all(bed: &Bed) -> Vec<Kind> {
    [pod_kinds(bed), policy_kinds(bed), mixed_kinds(bed)].into_iter().flatten().collect()
}

pub(super) fn bystander(number: u8, node: &str, labels: Pairs<'_>) -> Pod {
    let addresses: [IpAddr; 2] = [[10, 42, 9, number].into(), [0xfd42, 9, 0, 0, 0, 0, 0, number.into()].into()];
    pod(&format!("default/bystander-{number}"), node, labels, &addresses)
}

pub(super) fn clients(labels: Pairs<'_>) -> Rule {
    rule(vec![pods(labels)], vec![port(Protocol::Udp, PORT)])
}

pub(super) fn server_policy(rules: Vec<Rule>) -> Policy {
    ingress(policy("default/server", &[("app", "server")]), rules)
}

/// A policy whose rules allow many selectors, including the allowed client's.
fn many_selectors(count: usize) -> Policy {
    let others = (1..count).map(|number| pods(&[("role", &format!("other-{number}"))]));
    let peers = others.chain([pods(&[("role", "a")])]).collect();
    server_policy(vec![rule(peers, vec![port(Protocol::Udp, PORT)])])
}

/// A policy with many distinct ports.
fn many_ports(count: u16) -> Policy {
    let more =
        (1..count).map(|number| rule(vec![pods(&[("role", "x")])], vec![port(Protocol::Udp, PORT + 10 * number)]));
    server_policy(more.chain([clients(&[("role", "a")])]).collect())
}

fn gone(name: &str) -> Vec<Change> {
    vec![Change::PodGone(key(name))]
}

fn policy_gone(name: &str) -> Vec<Change> {
    vec![Change::PolicyGone(key(name))]
}

fn pod_change(pod: Pod) -> Vec<Change> {
    vec![Change::Pod(pod)]
}

fn policy_change(policy: Policy) -> Vec<Change> {
    vec![Change::Policy(policy)]
}

/// All kinds of changes to pods.
fn pod_kinds(bed: &Bed) -> Vec<Kind> {
    let kind = |name, cycle| Kind { name, also: Vec::new(), cycle };
    vec![
        kind(
            "pod of the allowed role added and removed",
            vec![pod_change(bystander(2, "node-2", &[("role", "a")])), gone("default/bystander-2")],
        ),
        kind(
            "isolated pod added and removed",
            vec![pod_change(bystander(3, "node-1", &[("app", "server")])), gone("default/bystander-3")],
        ),
        Kind {
            name: "pod relabelled into a group of its own and back",
            also: vec![Change::Policy(ingress(
                policy("default/extra", &[("tier", "extra")]),
                vec![rule(vec![], vec![])],
            ))],
            cycle: vec![
                pod_change(bystander(1, "node-1", &[("app", "server"), ("tier", "extra")])),
                pod_change(bystander(1, "node-1", &[("app", "server")])),
            ],
        },
        Kind {
            name: "server relabelled from group to group",
            also: vec![Change::Policy(ingress(policy("default/extra", &[("tier", "extra")]), vec![]))],
            cycle: vec![
                pod_change(bed.server(&[("app", "server"), ("tier", "extra")])),
                pod_change(bed.server(&[("app", "server")])),
            ],
        },
        kind(
            "allowed client relabelled from rule to rule",
            vec![pod_change(bed.allowed(&[("role", "b")])), pod_change(bed.allowed(&[("role", "a")]))],
        ),
        Kind {
            name: "denied client relabelled from rule to rule",
            also: vec![Change::Policy(ingress(
                policy("default/more", &[("app", "server")]),
                vec![
                    rule(vec![pods(&[("role", "x")])], vec![port(Protocol::Udp, 1)]),
                    rule(vec![pods(&[("role", "y")])], vec![port(Protocol::Udp, 2)]),
                ],
            ))],
            cycle: vec![pod_change(bed.denied(&[("role", "y")])), pod_change(bed.denied(&[("role", "x")]))],
        },
        Kind {
            name: "denied client isolated for egress and back",
            also: vec![Change::Policy(egress(policy("default/jail", &[("jail", "yes")]), vec![]))],
            cycle: vec![
                pod_change(bed.denied(&[("role", "x"), ("jail", "yes")])),
                pod_change(bed.denied(&[("role", "x")])),
            ],
        },
        Kind {
            name: "allowed client isolated for egress and back",
            also: vec![Change::Policy(egress(
                policy("default/jail", &[("jail", "yes")]),
                vec![clients(&[("app", "server")])],
            ))],
            cycle: vec![
                pod_change(bed.allowed(&[("role", "a"), ("jail", "yes")])),
                pod_change(bed.allowed(&[("role", "a")])),
            ],
        },
        Kind {
            name: "relabelled: egress closes as the server's ingress opens",
            also: vec![Change::Policy(egress(policy("default/jail", &[("role", "b")]), vec![]))],
            cycle: vec![pod_change(bed.denied(&[("role", "b")])), pod_change(bed.denied(&[("role", "x")]))],
        },
        Kind {
            name: "server relabelled: ingress opens as the client's egress closes",
            also: vec![Change::Policy(egress(
                policy("default/jail", &[("role", "x")]),
                vec![rule(vec![pods(&[("app", "server")])], vec![])],
            ))],
            cycle: vec![pod_change(bed.server(&[("app", "open")])), pod_change(bed.server(&[("app", "server")]))],
        },
        Kind {
            name: "server relabelled: ingress of a group that lets all in, egress closes",
            also: vec![
                Change::Policy(ingress(policy("default/open", &[("app", "open")]), vec![rule(vec![], vec![])])),
                Change::Policy(egress(
                    policy("default/jail", &[("role", "x")]),
                    vec![rule(vec![pods(&[("app", "server")])], vec![])],
                )),
                Change::Pod(bystander(4, "node-1", &[("app", "open")])),
            ],
            cycle: vec![pod_change(bed.server(&[("app", "open")])), pod_change(bed.server(&[("app", "server")]))],
        },
    ]
}

/// All kinds of changes to policies and namespaces.
fn policy_kinds(bed: &Bed) -> Vec<Kind> {
    let kind = |name, cycle| Kind { name, also: Vec::new(), cycle };
    let two = || vec![clients(&[("role", "a")]), clients(&[("role", "b")])];
    vec![
        Kind {
            name: "policy of another pod added and removed",
            also: vec![Change::Pod(bystander(7, "node-1", &[("tier", "extra")]))],
            cycle: vec![
                policy_change(ingress(policy("default/extra", &[("tier", "extra")]), vec![])),
                policy_gone("default/extra"),
            ],
        },
        kind(
            "policy of the server added and removed",
            vec![
                policy_change(ingress(policy("default/extra", &[("app", "server")]), vec![])),
                policy_gone("default/extra"),
            ],
        ),
        Kind {
            name: "group split and merged",
            also: vec![Change::Pod(bystander(5, "node-1", &[("app", "server"), ("tier", "extra")]))],
            cycle: vec![
                policy_change(ingress(policy("default/extra", &[("tier", "extra")]), vec![rule(vec![], vec![])])),
                policy_gone("default/extra"),
            ],
        },
        kind(
            "policy edited: rules",
            vec![
                policy_change(server_policy(vec![clients(&[("role", "a")])])),
                policy_change(server_policy(vec![
                    rule(vec![block("10.42.200.0/24")], vec![]),
                    rule(vec![pods(&[("role", "a")])], vec![]),
                ])),
                policy_change(server_policy(two())),
            ],
        ),
        kind(
            "more selectors than the merge threshold and back",
            vec![
                policy_change(many_selectors(8)),
                policy_change(many_selectors(9)),
                policy_change(many_selectors(8)),
                policy_change(server_policy(two())),
            ],
        ),
        kind(
            "more ports than the map threshold and back",
            vec![
                policy_change(many_ports(8)),
                policy_change(many_ports(9)),
                policy_change(many_ports(8)),
                policy_change(server_policy(two())),
            ],
        ),
        Kind {
            name: "policy edited: another pod's group joined as its rules close",
            also: vec![
                Change::Policy(ingress(policy("default/tier", &[("tier", "p")]), vec![rule(vec![], vec![])])),
                Change::Pod(bystander(6, "node-1", &[("app", "server"), ("tier", "p")])),
            ],
            cycle: vec![
                policy_change(ingress(policy("default/tier", &[("app", "server")]), vec![])),
                policy_change(ingress(policy("default/tier", &[("tier", "p")]), vec![rule(vec![], vec![])])),
            ],
        },
        Kind {
            name: "policy edited: the client's egress closes as the server's ingress opens",
            also: vec![
                Change::PolicyGone(key("default/server")),
                Change::Pod(bed.server(&[("zone", "z")])),
                Change::Pod(bed.denied(&[("zone", "z")])),
                Change::Policy(ingress(policy("default/both", &[("zone", "z")]), vec![clients(&[("role", "a")])])),
            ],
            cycle: vec![
                policy_change(egress(policy("default/both", &[("zone", "z")]), vec![])),
                policy_change(ingress(policy("default/both", &[("zone", "z")]), vec![clients(&[("role", "a")])])),
            ],
        },
        Kind {
            name: "namespace relabelled",
            also: vec![Change::Policy(server_policy(vec![
                clients(&[("role", "a")]),
                rule(vec![namespaces(&[("team", "blue")])], vec![port(Protocol::Udp, 1)]),
            ]))],
            cycle: vec![
                vec![Change::Namespace(namespace("default", &[("team", "blue")]))],
                vec![Change::Namespace(namespace("default", &[("team", "red")]))],
            ],
        },
        Kind {
            name: "namespace relabelled: its pods move from rule to rule",
            also: vec![
                Change::Namespace(namespace("clients", &[("team", "green")])),
                Change::PodGone(key("default/allowed")),
                Change::Pod(pod("clients/allowed", "node-1", &[], &bed.allowed.addresses())),
                Change::Pod(Pod { key: key("clients/other"), ..bystander(8, "node-2", &[]) }),
                Change::Policy(server_policy(vec![
                    rule(vec![namespaces(&[("team", "blue")])], vec![port(Protocol::Udp, PORT)]),
                    rule(vec![namespaces(&[("team", "green")])], vec![port(Protocol::Udp, PORT)]),
                ])),
            ],
            cycle: vec![
                vec![Change::Namespace(namespace("clients", &[("team", "blue")]))],
                vec![Change::Namespace(namespace("clients", &[("team", "green")]))],
            ],
        },
        Kind {
            name: "several pods relabelled in one commit",
            also: vec![Change::Policy(ingress(
                policy("default/more", &[("app", "server")]),
                vec![
                    rule(vec![pods(&[("role", "x")])], vec![port(Protocol::Udp, 1)]),
                    rule(vec![pods(&[("role", "y")])], vec![port(Protocol::Udp, 2)]),
                ],
            ))],
            cycle: vec![
                vec![Change::Pod(bed.allowed(&[("role", "b")])), Change::Pod(bed.denied(&[("role", "y")]))],
                vec![Change::Pod(bed.allowed(&[("role", "a")])), Change::Pod(bed.denied(&[("role", "x")]))],
            ],
        },
    ]
}

/// Several objects in one commit.
fn mixed_kinds(bed: &Bed) -> Vec<Kind> {
    let zone = |zone| Change::Pod(bed.server(&[("app", "server"), ("zone", zone)]));
    let role = |role| Change::Pod(bed.denied(&[("role", role), ("jail", "yes")]));
    vec![
        Kind {
            name: "client and server, both isolated, relabelled in one commit",
            also: vec![
                zone("a"),
                role("x"),
                Change::Policy(egress(
                    policy("default/jail", &[("jail", "yes")]),
                    vec![rule(vec![pods(&[("zone", "a")])], vec![]), rule(vec![pods(&[("zone", "c")])], vec![])],
                )),
            ],
            // Before, the client's egress is allowed and the server's ingress is not; afterwards the reverse.
            cycle: vec![vec![role("b"), zone("b")], vec![zone("a"), role("x")]],
        },
        Kind {
            name: "client relabelled and policy edited in one commit",
            also: Vec::new(),
            // Before and after, the policy allows the role that the client does not have.
            cycle: vec![
                vec![
                    Change::Policy(server_policy(vec![clients(&[("role", "a")]), clients(&[("role", "x")])])),
                    Change::Pod(bed.denied(&[("role", "b")])),
                ],
                vec![
                    Change::Policy(server_policy(vec![clients(&[("role", "a")]), clients(&[("role", "b")])])),
                    Change::Pod(bed.denied(&[("role", "x")])),
                ],
            ],
        },
    ]
}
