//! Commits are atomic for packets: while one kind of change after the other passes through index, renderer, plan and
//! netlink, a flood of packets that every state denies and a stream that every state allows run at the same time. None
//! of the first may pass, none of the second may be lost.
//!
//! Seen to fail, in 1.5 s of each kind at some 100,000 denied packets a second, when
//! - everything went in one batch (47 leaked in 2,288 commits of a policy of the server, 55 in 5,490 of its group, 32 lost
//!   in 1,580 of the port map, 16 lost in 33,860 of the client that moves from rule to rule);
//! - map elements, set elements and rules that packets already meet changed in one batch after new objects were staged
//!   (161 leaked in 8,948 commits of the client whose egress closes as the server's ingress opens, 194 in 17,668 and 67
//!   in 5,074 of the relabelled server, 41 in 2,764 of the group that is joined as its rules close);
//! - elements of several IPs left their sets in one batch and joined others in the next (9,944 of 22,499 packets lost
//!   in 24,462 commits of the namespace, 6,227 of 22,501 of the several pods);
//! - nothing waited between batches for in-flight packets (one leaked in some 5,000 commits of the relabelled client).
//!
//! `PALISADE_ATOMIC_FAULT=one-batch` sends everything of a change in one batch; `PALISADE_ATOMIC_ONLY=relabelled` runs
//! only the kinds with that in their name.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::driven::Driven;
use crate::common::objects::{
    Pairs, block, egress, ingress, key, namespace, namespaces, pod, pods, policy, port, rule,
};
use palisade_lab::{Flood, Flow as Shot, Lab, Layout, Pod as LabPod, Sink};
use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport, Verdict};
use palisade_policy::input::{Change, Pod, Policy, Protocol, Rule, State};
use palisade_policy::reference::evaluate;
use palisade_ruleset::render::Options;

/// The port of all policies and packets.
const PORT: u16 = 7000;
/// The minimum time and number of commits of each kind of change.
const TIME: Duration = Duration::from_millis(1_500);
const COMMITS: usize = 220;
/// Rate of the allowed stream, low enough not to fill queues.
const ALLOWED_RATE: u32 = 15_000;

/// The lab: a server, a client that is always allowed, one that is always denied.
struct Bed {
    lab: Lab,
    server: LabPod,
    allowed: LabPod,
    denied: LabPod,
}

/// A kind of change: events that lead from a state back to it, each of which is a commit.
struct Kind {
    name: &'static str,
    /// The objects in addition to the base.
    also: Vec<Change>,
    cycle: Vec<Vec<Change>>,
}

/// The result.
#[derive(Debug)]
struct Outcome {
    commits: usize,
    batches: usize,
    denied: u64,
    leaked: u64,
    allowed: u64,
    lost: u64,
    elapsed: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, batches, denied, leaked, allowed, lost, elapsed } = self;
        let float = |count: u64| f64::from(u32::try_from(count).unwrap());
        let each = float(*batches as u64) / float((*commits as u64).max(1));
        let rate = float(*denied) / elapsed.as_secs_f64();
        write!(
            f,
            "{commits:6} commits ({each:.1} batches each), {denied:8} denied ({rate:6.0}/s), {leaked:3} leaked, "
        )?;
        write!(f, "{allowed:7} allowed, {lost:3} lost")
    }
}

impl Bed {
    fn new() -> Self {
        let lab = Lab::builder().nodes(1, Layout::Bridge).build().unwrap();
        let [server, allowed, denied] =
            ["default/server", "default/allowed", "default/denied"].map(|name| lab.node(1).add_pod(name).unwrap());
        Self { lab, server, allowed, denied }
    }

    fn server(&self, labels: Pairs<'_>) -> Pod {
        pod("default/server", "node-1", labels, &self.server.addresses())
    }

    fn allowed(&self, labels: Pairs<'_>) -> Pod {
        pod("default/allowed", "node-1", labels, &self.allowed.addresses())
    }

    fn denied(&self, labels: Pairs<'_>) -> Pod {
        pod("default/denied", "node-1", labels, &self.denied.addresses())
    }

    /// The base: the server allows clients with role `a` or `b`, each by its own rule.
    fn base(&self) -> State {
        let mut state = State::default();
        let changes = [
            Change::Namespace(namespace("default", &[("team", "red")])),
            Change::Pod(self.server(&[("app", "server")])),
            Change::Pod(self.allowed(&[("role", "a")])),
            Change::Pod(self.denied(&[("role", "x")])),
            Change::Pod(bystander(1, "node-1", &[("app", "server")])),
            Change::Policy(server_policy(vec![clients(&[("role", "a")]), clients(&[("role", "b")])])),
        ];
        changes.into_iter().for_each(|change| state.apply(change));
        state
    }

    /// Runs one kind of change under traffic.
    fn run(&self, kind: &Kind, one_batch: bool) -> Outcome {
        let mut state = self.base();
        kind.also.iter().cloned().for_each(|change| state.apply(change));
        self.check(&state, kind.name);
        let mut walked = state.clone();
        for changes in &kind.cycle {
            changes.iter().cloned().for_each(|change| walked.apply(change));
            self.check(&walked, kind.name);
        }
        assert_eq!(walked, state, "{} does not end where it began", kind.name);

        let mut enforcer = Driven::start_with(self.lab.node(1), &state, &Options::default());
        enforcer.one_batch = one_batch;
        let address = self.server.ipv4().unwrap();
        let sink = Sink::open(&self.server, address, PORT).unwrap();
        let excused = self.lab.queue_drops().unwrap();
        let denied = Flood::start(&Shot::udp(&self.denied, address, PORT), None).unwrap();
        let allowed = Flood::start(&Shot::udp(&self.allowed, address, PORT), Some(ALLOWED_RATE)).unwrap();
        let started = Instant::now();
        let (mut commits, mut batches) = (0, 0);
        while started.elapsed() < TIME || commits < COMMITS {
            for changes in &kind.cycle {
                let done = enforcer.apply(changes.iter().cloned());
                batches += done;
                // A change that does not change the ruleset is not a commit.
                commits += usize::from(done > 0);
            }
        }
        let elapsed = started.elapsed();
        let (denied, allowed) = (denied.stop(), allowed.stop());
        self.lab.settle().unwrap();
        let leaked = sink.counts(denied.id).received;
        let missing = sink.counts(allowed.id).missing(allowed.sent);
        let excused = self.lab.queue_drops().unwrap() - excused + sink.socket_drops().unwrap();
        enforcer.delete_table();
        Outcome {
            commits,
            batches,
            denied: denied.sent,
            leaked,
            allowed: allowed.sent,
            lost: missing.saturating_sub(excused),
            elapsed,
        }
    }

    /// The state must deny the one client and allow the other.
    fn check(&self, state: &State, kind: &str) {
        for (from, expected) in [(&self.allowed, Verdict::Allow), (&self.denied, Verdict::Deny)] {
            let flow = Flow {
                from: Endpoint::Address(from.ipv4().unwrap().into()),
                to: Endpoint::Address(self.server.ipv4().unwrap().into()),
                transport: Transport::Port(Protocol::Udp, PORT),
                family: None,
            };
            let judgement = evaluate(state, &NodeFacts::default(), &flow).unwrap();
            assert_eq!(judgement.verdict, expected, "{kind}, {}: {judgement:?}", from.name());
        }
    }
}

/// A pod that exists only as an object.
fn bystander(number: u8, node: &str, labels: Pairs<'_>) -> Pod {
    let addresses: [IpAddr; 2] = [[10, 42, 9, number].into(), [0xfd42, 9, 0, 0, 0, 0, 0, number.into()].into()];
    pod(&format!("default/bystander-{number}"), node, labels, &addresses)
}

fn clients(labels: Pairs<'_>) -> Rule {
    rule(vec![pods(labels)], vec![port(Protocol::Udp, PORT)])
}

fn server_policy(rules: Vec<Rule>) -> Policy {
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

/// Kinds that run at once, each in its own lab: a commit mostly waits.
const LANES: usize = 3;

fn run_all() -> Vec<(&'static str, Outcome)> {
    let one_batch = std::env::var("PALISADE_ATOMIC_FAULT").is_ok_and(|fault| fault == "one-batch");
    let only = std::env::var("PALISADE_ATOMIC_ONLY").unwrap_or_default();
    let next = AtomicUsize::new(0);
    let lane = || {
        let bed = Bed::new();
        let kinds: Vec<_> = [pod_kinds(&bed), policy_kinds(&bed), mixed_kinds(&bed)].into_iter().flatten().collect();
        let mut results = Vec::new();
        while let Some(kind) = kinds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if kind.name.contains(&only) {
                let result = bed.run(kind, one_batch);
                println!("{result}: {}", kind.name);
                results.push((kind.name, result));
            }
        }
        results
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

#[test]
fn no_denied_packet_gets_through_and_no_allowed_one_is_lost() {
    let started = Instant::now();
    let results = run_all();
    let seconds = started.elapsed().as_secs_f64();
    let sum = |of: fn(&Outcome) -> u64| results.iter().map(|(_, result)| of(result)).sum::<u64>();
    let commits = sum(|result| result.commits as u64);
    let packets = sum(|result| result.denied + result.allowed);
    let rate = f64::from(u32::try_from(packets).unwrap()) / seconds;
    println!("{commits} commits, {packets} packets, {rate:.0} per second, in {seconds:.0} s");
    let wrong: Vec<_> = results.iter().filter(|(_, result)| result.leaked + result.lost > 0).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(commits >= 5_000 && rate >= 50_000.0);
}
