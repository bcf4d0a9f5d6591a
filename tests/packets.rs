//! Real packets get the verdict of the reference evaluator: generated clusters, put on a lab of three nodes (two with a
//! bridge, one with a route per pod) whose tables are written over netlink.
//!
//! Every generated pod stands on an address that a pod of the lab has, so one lab serves all cases and only rulesets
//! change, by difference from one unrelated cluster to the next. `PALISADE_SEED` repeats a run.
//!
//! Seen to fail when: rules compare the port before Service translation; the input hook does not judge egress; a pod is
//! not let reach itself; an egress chain accepts instead of returning to the ingress maps.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::items_after_statements,
    clippy::semicolon_if_nothing_returned,
    reason = "in tests, also outside of test functions"
)]

#[path = "common/enforce.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod enforce;
#[path = "common/objects.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod objects;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use enforce::Enforcer;
use palisade_lab::{
    Family as LabFamily, Flow as Shot, Host, Lab, Layout, Listen, Namespace, Outcome, Pod, PodSpec,
    Protocol as LabProtocol, Service, probe_all,
};
use palisade_policy::flow::{Endpoint, Flow, Judgement, Transport, Verdict};
use palisade_policy::input::{Addresses, Change, Family, Protocol, State};
use palisade_policy::reference::{End, Ends, Reference};
use palisade_ruleset::render::Options;
use palisade_testkit::generate::{Case, arb_case, flow_line};
use palisade_testkit::walking::Nodes;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// At least so many flows are sent, however long that takes.
const FLOWS: usize = 3_000;
/// And as many more as fit into this time.
const TIME: Duration = Duration::from_secs(45);
/// Pods that the generator may put on a node.
const PODS: u8 = 12;
/// Flows of a case that go through a Service as well.
const SERVICES: usize = 4;

/// The lab with everything that generated clusters can name.
struct Bed {
    lab: Lab,
    enforcers: Vec<Enforcer>,
    /// Who has an address: the number of the node it is on or behind, and the namespace.
    places: HashMap<IpAddr, (u8, Namespace)>,
    pods: HashMap<IpAddr, Pod>,
    /// Everything else in the world.
    world: Host,
}

/// What was sent, by kind of path, and how much of it was allowed.
#[derive(Default)]
struct Tally {
    states: usize,
    paths: BTreeMap<String, (usize, usize)>,
}

/// A packet to send, and the flow that it must fare like.
struct Trial<'a> {
    flow: &'a Flow,
    judgement: Judgement,
    path: String,
    shot: Shot,
}

impl Bed {
    fn new() -> Self {
        let lab = Lab::builder().nodes(2, Layout::Bridge).node(Layout::Routed).build().unwrap();
        let mut places = HashMap::new();
        let mut pods = HashMap::new();
        for node in lab.nodes() {
            for number in 0..PODS {
                let host = 10 + number;
                let four = [10, 42, node.number(), host].into();
                let six = [0xfd42, node.number().into(), 0, 0, 0, 0, 0, host.into()].into();
                let pod =
                    node.add_pod_with(PodSpec::new(format!("{}/{number}", node.name())).ipv4(four).ipv6(six)).unwrap();
                for address in pod.addresses() {
                    places.insert(address, (node.number(), pod.namespace().clone()));
                    pods.insert(address, pod.clone());
                }
            }
            for address in [LabFamily::V4, LabFamily::V6].map(|family| node.address(family)) {
                places.insert(address, (node.number(), node.namespace().clone()));
            }
        }
        let world = be_the_world(&lab);
        let enforcers = lab.nodes().iter().map(Enforcer::start).collect();
        Self { lab, enforcers, places, pods, world }
    }

    /// Enforces a cluster on all nodes and sends its flows.
    fn check(&mut self, case: &Case, tally: &mut Tally) -> Result<(), TestCaseError> {
        let case = &self.with_all_addresses(case);
        let options = Options { allow_egress_to_own_node: case.facts.allow_egress_to_own_node, ..Options::default() };
        for enforcer in &mut self.enforcers {
            enforcer.turn_to(&case.state, &options);
            enforcer.node.conntrack(&["-F"]).unwrap();
        }
        let reference = Reference::new(&case.state, &case.facts);
        let flows = more_flows(case);
        let mut trials: Vec<_> = flows.iter().filter_map(|flow| self.trial(&reference, flow)).collect();
        let translated: Vec<_> = self.through_services(&trials);
        trials.extend(translated);
        let shots: Vec<_> = trials.iter().map(|trial| trial.shot.clone()).collect();
        let arrived = self.lab.shoot(&shots).unwrap();
        for (trial, arrived) in trials.iter().zip(arrived) {
            let allowed = trial.judgement.verdict == Verdict::Allow;
            if arrived != allowed {
                return Err(TestCaseError::fail(explain(case, trial, arrived)));
            }
            let (sent, through) = tally.paths.entry(trial.path.clone()).or_default();
            *sent += 1;
            *through += usize::from(allowed);
        }
        tally.states += 1;
        Ok(())
    }

    /// The case, with the node addresses that a real node would have: the generator leaves some unknown, but packets of
    /// the lab's nodes come from them all the same.
    fn with_all_addresses(&self, case: &Case) -> Case {
        let mut case = case.clone();
        for node in self.lab.nodes() {
            let known = case.facts.addresses.entry(node.name().into()).or_default();
            known.extend([LabFamily::V4, LabFamily::V6].map(|family| node.address(family)));
        }
        case
    }

    /// The packet for a flow; none if the lab cannot send or deliver it.
    fn trial<'a>(&self, reference: &Reference<'_>, flow: &'a Flow) -> Option<Trial<'a>> {
        let judgement = reference.evaluate(flow).ok()?;
        let ends = reference.ends(flow).ok()?;
        let (from, to) = (ends.from.address?, ends.to.address?);
        let (source, start) = self.source(&ends.from, from)?;
        let goal = self.goal(&ends.to, to).filter(|goal| (start, *goal) != (0, 0))?;
        let (protocol, port) = match flow.transport {
            Transport::Portless => (LabProtocol::Icmp, 0),
            Transport::Port(Protocol::Tcp, port) => (LabProtocol::Tcp, port),
            Transport::Port(Protocol::Udp, port) => (LabProtocol::Udp, port),
            Transport::Port(Protocol::Sctp, port) => (LabProtocol::Sctp, port),
        };
        let shot = Shot::new(&source, protocol, to, port).from_address(from);
        Some(Trial { flow, judgement, path: path(&ends, start, goal, protocol), shot })
    }

    /// Where packets of an opener start: its node's number (0 for the world) and namespace.
    fn source(&self, end: &End<'_>, address: IpAddr) -> Option<(Namespace, u8)> {
        if let Some((node, namespace)) = self.places.get(&address) {
            return stands_there(end, *node, address).then(|| (namespace.clone(), *node));
        }
        (end.pods.is_empty() && is_sendable(address)).then(|| (self.world.namespace().clone(), 0))
    }

    /// Where packets to a server are to arrive: its node's number, 0 for the world.
    fn goal(&self, end: &End<'_>, address: IpAddr) -> Option<u8> {
        if let Some((node, _)) = self.places.get(&address) {
            return stands_there(end, *node, address).then_some(*node);
        }
        (end.pods.is_empty() && is_sendable(address) && is_in_the_world(address)).then_some(0)
    }

    /// Some of the trials again, through a Service that leads where they go.
    fn through_services<'a>(&self, trials: &[Trial<'a>]) -> Vec<Trial<'a>> {
        let to_pods = trials.iter().filter(|trial| {
            trial.shot.protocol != LabProtocol::Icmp
                && self.pods.contains_key(&trial.shot.to)
                && trial.shot.source.is_some_and(|source| self.places.contains_key(&source))
        });
        let mut translated = Vec::new();
        for (number, trial) in to_pods.take(SERVICES).enumerate() {
            let last = u8::try_from(number).unwrap() + 1;
            let address: IpAddr = if trial.shot.to.is_ipv4() {
                [10, 96, 0, last].into()
            } else {
                [0xfd96, 0, 0, 0, 0, 0, 0, last.into()].into()
            };
            let backend = (&self.pods[&trial.shot.to], trial.shot.port);
            let service = Service::new(format!("service-{number}"), (trial.shot.protocol, 4000), &[address], backend);
            self.lab.add_service(service).unwrap();
            let mut shot = trial.shot.clone();
            (shot.to, shot.port) = (address, 4000);
            let path = format!("{} by Service", trial.path);
            translated.push(Trial { flow: trial.flow, judgement: trial.judgement.clone(), path, shot });
        }
        translated
    }
}

/// A host that every address outside the cluster leads to.
fn be_the_world(lab: &Lab) -> Host {
    let world = lab.add_host("world", &[]).unwrap();
    let both = [("-4", LabFamily::V4), ("-6", LabFamily::V6)];
    let ip = |namespace: &Namespace, family, commands: &str| {
        drop(namespace.output("ip", &[family, "-batch", "-"], commands).unwrap())
    };
    for (option, family) in both {
        let everything =
            "route del default\nrule add pref 40000 lookup 100\nroute add local default dev lo table 100\n";
        ip(world.namespace(), option, everything);
        for node in lab.nodes() {
            ip(node.namespace(), option, &format!("route replace default via {} dev eth0\n", world.address(family)));
        }
    }
    world
}

/// Whether whoever an end is can be found at its address in the lab: on that node, and not in the place of a node.
fn stands_there(end: &End<'_>, node: u8, address: IpAddr) -> bool {
    let is_pod_address = match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd42,
    };
    let name = format!("node-{node}");
    if end.pods.is_empty() {
        // Nobody's address of a pod: whoever sends from it is no pod that anybody knows.
        return is_pod_address || end.node.is_none_or(|node| *node == *name);
    }
    is_pod_address && end.pods.iter().all(|pod| pod.node.as_deref() == Some(&name))
}

/// Whether the kernel forwards packets from and to such an address: not its own special ones, nor those by which nodes
/// know themselves on their links (gateway, network, broadcast).
fn is_sendable(address: IpAddr) -> bool {
    let is_plain = !Addresses::accept([address]).0.is_empty();
    let last = match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => return false,
        IpAddr::V4(address) => u16::from(address.octets()[3]),
        IpAddr::V6(address) => address.segments()[7],
    };
    is_plain && (is_in_the_world(address) || ![0, 1, 255].contains(&last))
}

/// Whether nodes route the address to the world.
fn is_in_the_world(address: IpAddr) -> bool {
    let cluster = ["10.42.0.0/16", "fd42::/16", "172.30.0.0/24", "fd00:30::/64"];
    !cluster.iter().any(|net| net.parse::<ipnet::IpNet>().unwrap().contains(&address))
}

/// The flows of the case, and between all its pods some more.
fn more_flows(case: &Case) -> Vec<Flow> {
    let transports: BTreeSet<_> = case
        .flows
        .iter()
        .map(|flow| match flow.transport {
            Transport::Port(protocol, port) => (Some(protocol), port),
            Transport::Portless => (None, 0),
        })
        .collect();
    let transports: Vec<_> = transports.into_iter().collect();
    let mut flows = case.flows.clone();
    let pods = case.state.pods.keys();
    let pairs = pods.clone().flat_map(|from| pods.clone().map(move |to| (from, to)));
    for (number, (from, to)) in pairs.enumerate() {
        let Some((protocol, port)) = transports.get(number % transports.len().max(1)) else { break };
        let transport = protocol.map_or(Transport::Portless, |protocol| Transport::Port(protocol, *port));
        let family = if number % 2 == 0 { Family::V4 } else { Family::V6 };
        flows.push(Flow {
            from: Endpoint::Pod(from.clone()),
            to: Endpoint::Pod(to.clone()),
            transport,
            family: Some(family),
        });
    }
    flows
}

/// What kind of way it is, for the tally.
fn path(ends: &Ends<'_>, start: u8, goal: u8, protocol: LabProtocol) -> String {
    let what = |end: &End<'_>, node: u8| match (end.pods.is_empty(), node) {
        (false, _) => "pod",
        (true, 0) => "world",
        (true, _) => "node or nobody",
    };
    let family = if ends.from.address.is_some_and(|address| address.is_ipv4()) { 4 } else { 6 };
    let layout = |node| if node == 3 { "routed" } else { "bridge" };
    let way = match (ends.from.address == ends.to.address, start == goal) {
        (true, _) => "itself".to_owned(),
        (false, true) => format!("same node, {}", layout(start)),
        (false, false) => "other node".to_owned(),
    };
    format!("{protocol} IPv{family} {} to {} ({way})", what(&ends.from, start), what(&ends.to, goal))
}

fn explain(case: &Case, trial: &Trial<'_>, arrived: bool) -> String {
    let reference = Reference::new(&case.state, &case.facts);
    let ways = Nodes::render(&case.state, &case.facts).send(trial.flow, &reference.ends(trial.flow).unwrap());
    let steps: Vec<_> = ways.unwrap().into_iter().flatten().flat_map(|way| way.steps).collect();
    format!(
        "{} [{}] {}: {} ({}), but {:?}\nby the model: {}",
        flow_line(trial.flow),
        trial.path,
        trial.shot,
        if arrived { "arrived" } else { "did not arrive" },
        trial.shot.source.unwrap(),
        trial.judgement,
        steps.join("\n")
    )
}

/// A runner of a single case.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(byte, value)| *byte = value);
    let config = Config { cases: 1, failure_persistence: None, max_shrink_time: 15_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn generated_clusters_on_real_packets() {
    let seed = std::env::var("PALISADE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let bed = RefCell::new(Bed::new());
    let tally = RefCell::new(Tally::default());
    let started = Instant::now();
    let sent = || tally.borrow().paths.values().map(|(sent, _)| sent).sum::<usize>();
    for seed in (0..).map(|number| seed.wrapping_add(number)) {
        if started.elapsed() > TIME && sent() >= FLOWS {
            break;
        }
        let ran = runner(seed).run(&arb_case(), |case| bed.borrow_mut().check(&case, &mut tally.borrow_mut()));
        match ran {
            Ok(()) => {}
            Err(TestError::Fail(why, case)) => panic!("PALISADE_SEED={seed}\n{why}\nin\n{case:?}"),
            Err(TestError::Abort(why)) => panic!("PALISADE_SEED={seed}: {why}"),
        }
    }
    let tally = tally.borrow();
    println!("{} clusters, {} flows, seed {seed}", tally.states, sent());
    for (path, (sent, allowed)) in &tally.paths {
        println!("{sent:6} sent, {allowed:6} allowed: {path}");
    }
}

/// The hand-written case: a cluster that a reader can hold in mind, and sockets instead of crafted packets.
#[test]
fn a_small_cluster_by_hand() {
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
        // One that may open nothing and that nobody may talk to.
        Change::Policy(objects::egress(objects::ingress(objects::policy("desk/locked", &[]), vec![]), vec![])),
        // ... but its neighbour may.
        Change::Policy(objects::egress(
            objects::ingress(objects::policy("desk/far", &[("app", "far")]), vec![]),
            vec![objects::rule(vec![], vec![])],
        )),
    ];
    changes.into_iter().for_each(|change| state.apply(change));
    let _enforcers: Vec<_> =
        lab.nodes().iter().map(|node| Enforcer::start_with(node, &state, &Options::default())).collect();

    use LabProtocol::{Icmp, Sctp, Tcp, Udp};
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
            // Replies of a flow that web opens itself pass, although nobody may open one to far.
            (web.namespace(), Tcp, of(&front), 80, true),
            (web.namespace(), Tcp, of(&far), 80, false),
            // Itself: directly and through its own Service.
            (web.namespace(), Tcp, of(&web), 81, true),
            (web.namespace(), Tcp, service, 8000, true),
            // The node reaches every pod of its own, isolated or not, and no isolated one of another node.
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
