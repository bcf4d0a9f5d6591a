//! Real packets get the verdict of the evaluator: generated clusters, on a lab of three nodes (two with a bridge, one
//! with a route per pod) whose tables are written over netlink.
//!
//! Every generated pod has an IP of one of the lab's pods, so one lab serves all cases and only rulesets change, by
//! difference from one unrelated cluster to the next. A case's packets are sent all at once. The receiving end shows
//! the fate of each, and the nodes' drop counters must have grown by exactly the denied ones.
//!
//! `hack/fuzz-semantics` sends more of them (`PALISADE_PROBES`); see [`palisade_testkit::trials`].

mod explained;
mod nearest;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::common::driven::Driven;
use ipnet::IpNet;
use palisade_lab::{
    Family as LabFamily, Flow as Shot, Host, Lab, Layout, Namespace, Node, PodSpec, Protocol as LabProtocol, Service,
};
use palisade_policy::flow::{Endpoint, Flow, Judgement, NodeFacts, Transport, Verdict};
use palisade_policy::input::{Addresses, Protocol, State};
use palisade_policy::reference::{End, Ends, Reference};
use palisade_ruleset::name::Name;
use palisade_ruleset::render::Options;
use palisade_testkit::generate::{Case, arb_case_with, flow_line};
use palisade_testkit::trials::Trials;
use palisade_testkit::walking::Nodes;
use proptest::prelude::*;

/// Packets sent in a test run.
const PROBES: usize = 3_000;
/// Pods that the generator may put on a node.
const PODS: u8 = 12;
/// One in this many flows to pods goes through a Service as well.
const SERVICE_EVERY: usize = 8;
/// The target ports of Services; the pod decides which.
const SERVED: [(Protocol, u16); 6] = [
    (Protocol::Tcp, 80),
    (Protocol::Udp, 53),
    (Protocol::Tcp, 8080),
    (Protocol::Sctp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Udp, 5353),
];
/// The port of every Service.
const SERVICE_PORT: u16 = 4000;

/// The lab with everything that generated clusters can name.
struct Bed {
    lab: Lab,
    enforcers: Vec<Driven>,
    /// The owner of an IP: the number of the node that it is on or behind, and the namespace.
    places: HashMap<IpAddr, (u8, Namespace)>,
    /// The Service of each pod IP: its own IP of that family, and its target.
    services: HashMap<IpAddr, (IpAddr, Protocol, u16)>,
    /// All other IPs outside.
    world: Host,
    /// The nodes' pod ranges, if the case knows them.
    ranges: Vec<IpNet>,
}

/// The number of packets on a kind of path, and how many of them passed.
type Tally = BTreeMap<String, (usize, usize)>;

/// A packet to send, and the flow whose verdict it must get.
struct Trial {
    flow: Flow,
    judgement: Judgement,
    path: String,
    shot: Shot,
}

#[test]
fn real_packets_get_the_verdict_of_the_evaluator() {
    let bed = RefCell::new(Bed::new());
    let tally = RefCell::new(Tally::new());
    let check = |case: &Case| bed.borrow_mut().check(case, &mut tally.borrow_mut());
    Trials::of("probes", "PALISADE_PROBES", PROBES).run_alone(&arb_case_with(20..150), check);
    for (path, (sent, allowed)) in tally.borrow().iter() {
        println!("{sent:6} sent, {allowed:6} allowed: {path}");
    }
}

impl Bed {
    fn new() -> Self {
        let lab = Lab::builder().nodes(2, Layout::Bridge).node(Layout::Routed).build().unwrap();
        let (mut places, mut services) = (HashMap::new(), HashMap::new());
        for node in lab.nodes() {
            for number in 0..PODS {
                let pod = node.add_pod_with(pod_spec(node.number(), number, node.name())).unwrap();
                let (protocol, port) = SERVED[usize::from(number) % SERVED.len()];
                let host = node.number() * PODS + number;
                let addresses = [[10, 96, 0, host].into(), [0xfd96, 0, 0, 0, 0, 0, 0, host.into()].into()];
                let backend = (&pod, port);
                let service = Service::new(pod.name(), (in_lab(protocol), SERVICE_PORT), &addresses, backend);
                lab.add_service(service).unwrap();
                for address in pod.addresses() {
                    places.insert(address, (node.number(), pod.namespace().clone()));
                    services.insert(address, (addresses[usize::from(address.is_ipv6())], protocol, port));
                }
            }
            for address in [LabFamily::V4, LabFamily::V6].map(|family| node.address(family)) {
                places.insert(address, (node.number(), node.namespace().clone()));
            }
        }
        let world = be_the_world(&lab);
        lab.nodes().iter().for_each(say_nothing_late);
        let enforcers = lab.nodes().iter().map(Driven::start).collect();
        Self { lab, enforcers, places, services, world, ranges: Vec::new() }
    }

    /// Enforces a cluster on all nodes and sends its flows.
    fn check(&mut self, case: &Case, tally: &mut Tally) -> Result<usize, TestCaseError> {
        let case = &self.with_all_addresses(case);
        // An agent that adopts a table keeps pods of a terminating namespace isolated as in that table. Here that would
        // be the namespace of another cluster.
        if case.state.namespaces.values().any(|namespace| namespace.terminating) {
            self.enforcers.iter_mut().for_each(Driven::delete_table);
        }
        self.enforce(&case.state, &case.facts);
        let reference = Reference::new(&case.state, &case.facts);
        self.ranges = case.facts.pod_ranges.values().flatten().copied().collect();
        let mut trials: Vec<_> = case.flows.iter().filter_map(|flow| self.trial(&reference, flow)).collect();
        let translated: Vec<_> = self.through_services(&reference, &trials);
        trials.extend(translated);
        let shots: Vec<_> = trials.iter().map(|trial| trial.shot.clone()).collect();
        let before = self.dropped();
        let mut arrived = self.lab.shoot(&shots).unwrap();
        self.shoot_lost_again(&trials, &mut arrived, before);
        for (trial, arrived) in trials.iter().zip(arrived) {
            let allowed = trial.judgement.verdict == Verdict::Allow;
            if arrived != allowed {
                return Err(TestCaseError::fail(explain(case, trial, arrived)));
            }
            let (sent, through) = tally.entry(trial.path.clone()).or_default();
            *sent += 1;
            *through += usize::from(allowed);
        }
        let denied = trials.iter().filter(|trial| trial.judgement.verdict == Verdict::Deny).count();
        prop_assert_eq!(self.dropped() - before, denied as u64, "packets counted as dropped, and packets denied");
        let fixed = self.fix_nearest(case, &trials, tally)?;
        Ok(trials.len() + fixed)
    }

    /// Turns all nodes to a cluster, and deletes their flows.
    fn enforce(&mut self, state: &State, facts: &NodeFacts) {
        let allow_egress_to_own_node = facts.allow_egress_to_own_node;
        for enforcer in &mut self.enforcers {
            let pod_ranges = facts.pod_ranges.get(enforcer.node.name()).cloned().unwrap_or_default();
            enforcer.turn_to(state, &Options { allow_egress_to_own_node, pod_ranges, ..Options::default() });
            enforcer.node.conntrack(&["-F"]).unwrap();
        }
    }

    /// Resends packets that should have arrived and that no policy has dropped: the queue of a CPU, which all
    /// namespaces share, was full. A wrong rule drops them again.
    fn shoot_lost_again(&mut self, trials: &[Trial], arrived: &mut [bool], before: u64) {
        let is_lost = |(trial, arrived): (&Trial, &bool)| trial.judgement.verdict == Verdict::Allow && !arrived;
        let lost: Vec<_> = (0..trials.len()).filter(|number| is_lost((&trials[*number], &arrived[*number]))).collect();
        let denied = trials.iter().filter(|trial| trial.judgement.verdict == Verdict::Deny).count();
        let now = self.dropped();
        if lost.is_empty() || now - before != denied as u64 {
            return;
        }
        println!("{} packets lost outside the rules; sending them again", lost.len());
        let shots: Vec<_> = lost.iter().map(|number| trials[*number].shot.clone()).collect();
        for (number, again) in lost.iter().zip(self.lab.shoot(&shots).unwrap()) {
            arrived[*number] = again;
        }
    }

    /// The number of packets that isolation in a direction has dropped on all nodes: other counters include a node's
    /// own traffic.
    fn dropped(&mut self) -> u64 {
        let counters = self.enforcers.iter_mut().map(|enforcer| enforcer.table().counters().unwrap());
        let by_isolation =
            |name: &Name| ["drop/egress/", "drop/ingress/"].iter().any(|head| name.as_str().starts_with(head));
        let judged = counters.flatten().filter(|(name, _)| by_isolation(name));
        judged.map(|(_, count)| count.packets).sum()
    }

    /// The case, with the node IPs that a real node would have: the generator leaves some unknown, but packets of the
    /// lab's nodes come from them anyway.
    fn with_all_addresses(&self, case: &Case) -> Case {
        let mut case = case.clone();
        for node in self.lab.nodes() {
            let known = case.facts.addresses.entry(node.name().into()).or_default();
            known.extend([LabFamily::V4, LabFamily::V6].map(|family| node.address(family)));
        }
        case
    }

    /// The packet for a flow; none if the lab cannot send or deliver it.
    fn trial(&self, reference: &Reference<'_>, flow: &Flow) -> Option<Trial> {
        let judgement = reference.evaluate(flow).ok()?;
        let ends = reference.ends(flow).ok()?;
        let (from, to) = (ends.from.address?, ends.to.address?);
        // If both a node and a pod claim an IP, the owner of its packets is unknown.
        let plain = Flow { from: Endpoint::Address(from), to: Endpoint::Address(to), ..flow.clone() };
        let meant = reference.ends(&plain).ok()?;
        if meant.from.pods != ends.from.pods || meant.to.pods != ends.to.pods {
            return None;
        }
        // Skip: only the lab's pods send from a pod range, and a pod's packets to itself do not pass the node.
        let is_a_pods = |address: &IpAddr| self.ranges.iter().any(|range| range.contains(address));
        let is_misplaced = |address: &IpAddr| is_a_pods(address) && !self.places.contains_key(address);
        if [from, to].iter().any(is_misplaced) || (from == to && is_a_pods(&from) && ends.from.pods.is_empty()) {
            return None;
        }
        let (source, start) = self.source(&ends.from, from)?;
        let goal = self.goal(&ends.to, to).filter(|goal| (start, *goal) != (0, 0))?;
        let (protocol, port) = match flow.transport {
            Transport::Portless => (LabProtocol::Icmp, 0),
            Transport::Port(protocol, port) => (in_lab(protocol), port),
        };
        let shot = Shot::new(&source, protocol, to, port).from_address(from);
        Some(Trial { flow: flow.clone(), judgement, path: path(&ends, start, goal, protocol), shot })
    }

    /// Where a client's packets start: its node's number (0 for outside) and namespace.
    fn source(&self, end: &End<'_>, address: IpAddr) -> Option<(Namespace, u8)> {
        if let Some((node, namespace)) = self.places.get(&address) {
            return stands_there(end, *node, address).then(|| (namespace.clone(), *node));
        }
        (end.pods.is_empty() && is_sendable(address)).then(|| (self.world.namespace().clone(), 0))
    }

    /// Where packets to a server must arrive: its node's number, 0 for outside.
    fn goal(&self, end: &End<'_>, address: IpAddr) -> Option<u8> {
        if let Some((node, _)) = self.places.get(&address) {
            return stands_there(end, *node, address).then_some(*node);
        }
        (end.pods.is_empty() && is_sendable(address) && is_in_the_world(address)).then_some(0)
    }

    /// Repeats some of the trials to the target port of the server's Service, through that Service.
    fn through_services(&self, reference: &Reference<'_>, trials: &[Trial]) -> Vec<Trial> {
        let to_pods = trials.iter().filter_map(|trial| {
            let source = trial.shot.source.filter(|source| self.places.contains_key(source))?;
            Some((trial, source, self.services.get(&trial.shot.to)?))
        });
        let translated = to_pods.step_by(SERVICE_EVERY).filter_map(|(trial, source, (address, protocol, port))| {
            let flow = Flow { transport: Transport::Port(*protocol, *port), ..trial.flow.clone() };
            let mut translated = self.trial(reference, &flow)?;
            translated.shot =
                Shot::new(&trial.shot.from, in_lab(*protocol), *address, SERVICE_PORT).from_address(source);
            translated.path += " by Service";
            Some(translated)
        });
        translated.collect()
    }
}

/// The pod with this number on a node, at the generator's IP.
fn pod_spec(node: u8, number: u8, node_name: &str) -> PodSpec {
    let host = 10 + number;
    let four = [10, 42, node, host].into();
    let six = [0xfd42, node.into(), 0, 0, 0, 0, 0, host.into()].into();
    PodSpec::new(format!("{node_name}/{number}")).ipv4(four).ipv6(six)
}

fn in_lab(protocol: Protocol) -> LabProtocol {
    match protocol {
        Protocol::Tcp => LabProtocol::Tcp,
        Protocol::Udp => LabProtocol::Udp,
        Protocol::Sctp => LabProtocol::Sctp,
    }
}

/// A host that has every IP outside the cluster.
fn be_the_world(lab: &Lab) -> Host {
    let world = lab.add_host("world", &[]).unwrap();
    let both = [("-4", LabFamily::V4), ("-6", LabFamily::V6)];
    let ip = |namespace: &Namespace, family, commands: &str| {
        drop(namespace.output("ip", &[family, "-batch", "-"], commands).unwrap());
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

/// Keeps the node from reporting, seconds later, that a reply found no host at its IP: by then another case runs, whose
/// rules would drop and count that.
fn say_nothing_late(node: &Node) {
    let rules = ["icmp type destination-unreachable drop", "icmpv6 type destination-unreachable drop"].join("\n");
    node.nft(&format!("table inet quiet {{\nchain output {{\ntype filter hook output priority 0\n{rules}\n}}\n}}"))
        .unwrap();
}

/// Whether the lab has the end at its IP: on that node, and not in place of a node.
fn stands_there(end: &End<'_>, node: u8, address: IpAddr) -> bool {
    let is_pod_address = match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd42,
    };
    let name = format!("node-{node}");
    if end.pods.is_empty() {
        // An IP in a pod range that no pod has: packets from it come from an unknown pod.
        return is_pod_address || end.node.is_none_or(|node| *node == *name);
    }
    is_pod_address && end.pods.iter().all(|pod| pod.node.as_deref() == Some(&name))
}

/// Whether the kernel forwards packets from and to this IP: not its own special ones, nor the gateway, network and
/// broadcast addresses of nodes' links.
fn is_sendable(address: IpAddr) -> bool {
    let is_plain = !Addresses::accept([address]).0.is_empty();
    let last = match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => return false,
        IpAddr::V4(address) => u16::from(address.octets()[3]),
        IpAddr::V6(address) => address.segments()[7],
    };
    is_plain && (is_in_the_world(address) || ![0, 1, 255].contains(&last))
}

/// Whether nodes route this IP to the outside.
fn is_in_the_world(address: IpAddr) -> bool {
    let cluster = ["10.42.0.0/16", "fd42::/16", "172.30.0.0/24", "fd00:30::/64"];
    !cluster.iter().any(|net| net.parse::<ipnet::IpNet>().unwrap().contains(&address))
}

/// The kind of path, for the tally.
fn path(ends: &Ends<'_>, start: u8, goal: u8, protocol: LabProtocol) -> String {
    let what = |end: &End<'_>, node: u8| match (end.pods.is_empty(), node) {
        (false, _) => "pod",
        (true, 0) => "world",
        (true, _) => "node or unassigned IP",
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

fn explain(case: &Case, trial: &Trial, arrived: bool) -> String {
    let reference = Reference::new(&case.state, &case.facts);
    let ways = Nodes::render(&case.state, &case.facts).send(&trial.flow, &reference.ends(&trial.flow).unwrap());
    let steps: Vec<_> = ways.unwrap().into_iter().flatten().flat_map(|way| way.steps).collect();
    format!(
        "{} [{}] {}: {} ({}), but {:?}\nby the model: {}",
        flow_line(&trial.flow),
        trial.path,
        trial.shot,
        if arrived { "arrived" } else { "did not arrive" },
        trial.shot.source.unwrap(),
        trial.judgement,
        steps.join("\n")
    )
}
