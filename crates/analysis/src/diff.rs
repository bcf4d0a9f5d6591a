//! What a change of the objects opens and closes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use palisade_policy::compile::AddressRange;
use palisade_policy::flow::NodeFacts;
use palisade_policy::input::{Direction, Family, NamespacedName, Pod, State};

use crate::reach::{ByFamily, PortSet, Reach, Workload, World, by_family, join, spelled, titles, workloads};

/// An end of flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A workload by its name, and its pods. If policies treat pods of one name differently, the name has a pod's too.
    Workload(String, Vec<NamespacedName>),
    /// An IP of a node.
    Node(IpAddr),
    /// The addresses of a range, except those of pods and nodes.
    World(AddressRange),
}

impl fmt::Display for End {
    /// `shop/web`, `node 10.0.0.1`, `world 10.0.0.0/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name, _) => f.write_str(name),
            Self::Node(address) => write!(f, "node {address}"),
            Self::World(range) => write!(f, "world {}", spelled(*range)),
        }
    }
}

/// Flows whose verdict changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The client.
    pub from: End,
    /// The server.
    pub to: End,
    /// The family, if the other one does not change in the same way.
    pub family: Option<Family>,
    /// What is allowed now and was not before.
    pub opened: PortSet,
    /// What was allowed before and is not now.
    pub closed: PortSet,
}

/// A workload that only one side has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Single {
    /// Its name.
    pub workload: String,
    /// Whether policies isolate it: for egress, for ingress.
    pub isolated: [bool; 2],
}

/// What a change opens and closes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Between ends that both sides have, by client and server; none twice.
    pub changes: Vec<Change>,
    /// Workloads that only the later side has.
    pub added: Vec<Single>,
    /// Workloads that only the earlier side has.
    pub removed: Vec<Single>,
}

impl Diff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }
}

/// The flows that are compared.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'s> {
    /// All of them.
    All,
    /// Those whose verdict in this direction is about these pods: from them for egress, to them for ingress.
    Of(Direction, &'s BTreeSet<NamespacedName>),
}

impl Scope<'_> {
    fn has(self, direction: Direction, workload: &Workload) -> bool {
        match self {
            Self::All => true,
            Self::Of(own, pods) => own == direction && workload.pods.iter().any(|pod| pods.contains(pod)),
        }
    }
}

/// Compares two states of a cluster.
pub fn diff(before: &State, after: &State, facts: &NodeFacts, scope: Scope<'_>) -> Diff {
    let (old, new) = (Reach::new(before, facts), Reach::new(after, facts));
    let all = workloads(&[before, after]);
    let is_in = |state: &State, workload: &Workload| {
        workload.pods.first().and_then(|pod| state.pod(pod)).is_some_and(Pod::is_live)
    };
    let mut diff = Diff::default();
    let mut both: Vec<&Workload> = Vec::new();
    for workload in &all {
        match (is_in(before, workload), is_in(after, workload)) {
            (true, true) => both.push(workload),
            (true, false) => diff.removed.push(single(&old, workload)),
            (false, _) => diff.added.push(single(&new, workload)),
        }
    }
    let ends: Vec<_> = titles(&both)
        .into_iter()
        .zip(&both)
        .map(|(title, workload)| End::Workload(title, workload.pods.clone()))
        .collect();
    let steady = Steady::of(&old, &new, &both);
    let mut found: BTreeSet<Change> = BTreeSet::new();
    for (number, from) in both.iter().enumerate() {
        for (other, to) in both.iter().enumerate() {
            let is_asked = scope.has(Direction::Egress, from) || scope.has(Direction::Ingress, to);
            if !is_asked || (steady.is(number, Direction::Egress) && steady.is(other, Direction::Ingress)) {
                continue;
            }
            let (Some((one, two)), Some(from), Some(to)) = (pair(from, to), ends.get(number), ends.get(other)) else {
                continue;
            };
            let possible = families(&[before, after], one, two);
            let changes = compare(possible, &old.between(one, two), &new.between(one, two));
            found.extend(changes.into_iter().map(|(family, delta)| delta.between(from.clone(), to.clone(), family)));
        }
    }
    let world = World::of(&[before, after], facts);
    for (number, (workload, end)) in both.iter().zip(&ends).enumerate() {
        for direction in Direction::ALL.into_iter().filter(|direction| scope.has(*direction, workload)) {
            if !steady.is(number, direction) {
                found.extend(with_world(&world, [&old, &new], workload, end, direction));
            }
        }
    }
    diff.changes = found.into_iter().collect();
    for list in [&mut diff.added, &mut diff.removed] {
        list.sort();
        list.dedup();
    }
    diff
}

fn single(reach: &Reach<'_>, workload: &Workload) -> Single {
    let pod = workload.pods.first().and_then(|pod| reach.state().pod(pod));
    let isolated = Direction::ALL.map(|direction| pod.is_some_and(|pod| !reach.isolating(pod, direction).is_empty()));
    Single { workload: workload.key.to_string(), isolated }
}

/// Two different pods of these workloads; none if both are the same single pod, which always reaches itself.
fn pair<'w>(from: &'w Workload, to: &'w Workload) -> Option<(&'w NamespacedName, &'w NamespacedName)> {
    let one = from.pods.first()?;
    Some((one, to.pods.iter().find(|other| *other != one)?))
}

/// The workloads whose verdicts cannot change: the same policies isolate them, and no pod or namespace is different.
struct Steady(Vec<[bool; 2]>);

impl Steady {
    fn of<'s>(old: &Reach<'s>, new: &Reach<'s>, all: &[&Workload]) -> Self {
        let (before, after) = (old.state(), new.state());
        let same_pods = before.pods == after.pods && before.namespaces == after.namespaces;
        let policies = |reach: &Reach<'s>, workload: &Workload, direction| {
            let pod = workload.pods.first().and_then(|pod| reach.state().pod(pod));
            pod.map(|pod| reach.isolating(pod, direction)).unwrap_or_default()
        };
        let of = |workload: &&Workload| {
            Direction::ALL
                .map(|direction| same_pods && policies(old, workload, direction) == policies(new, workload, direction))
        };
        Self(all.iter().map(of).collect())
    }

    fn is(&self, workload: usize, direction: Direction) -> bool {
        let [egress, ingress] = self.0.get(workload).copied().unwrap_or_default();
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }
}

/// The families that flows between two pods can have: IPv4, IPv6.
fn families(states: &[&State], one: &NamespacedName, two: &NamespacedName) -> [bool; 2] {
    let has = |key: &NamespacedName, family| {
        let mut pods = states.iter().filter_map(|state| state.pod(key));
        pods.any(|pod| pod.addresses.is_empty() || pod.addresses.of(family).is_some())
    };
    Family::ALL.map(|family| has(one, family) && has(two, family))
}

/// What opens and closes.
#[derive(PartialEq, Eq)]
struct Delta {
    opened: PortSet,
    closed: PortSet,
}

impl Delta {
    /// None if nothing changes.
    fn of(before: &PortSet, after: &PortSet) -> Option<Self> {
        (before != after).then(|| Self { opened: after.without(before), closed: before.without(after) })
    }

    fn between(self, from: End, to: End, family: Option<Family>) -> Change {
        Change { from, to, family, opened: self.opened, closed: self.closed }
    }
}

/// What opens and closes, by family or for both. A family that there cannot be is not told from the other.
fn compare([four_is, six_is]: [bool; 2], before: &ByFamily, after: &ByFamily) -> Vec<(Option<Family>, Delta)> {
    let [four, six] = by_family(before, after, Delta::of);
    let changes = if four == six || four_is != six_is {
        [(if four_is { four } else { six }).map(|delta| (None, delta)), None]
    } else {
        [four.map(|delta| (Some(Family::V4), delta)), six.map(|delta| (Some(Family::V6), delta))]
    };
    changes.into_iter().flatten().collect()
}

/// The changes between a workload and the world, or a node.
fn with_world(
    world: &World,
    reaches: [&Reach<'_>; 2],
    workload: &Workload,
    end: &End,
    direction: Direction,
) -> Vec<Change> {
    let Some(pod) = workload.pods.first() else { return Vec::new() };
    let change = |(other, delta): (End, Option<Delta>)| {
        let (from, to) = match direction {
            Direction::Egress => (end.clone(), other),
            Direction::Ingress => (other, end.clone()),
        };
        delta.map(|delta| delta.between(from, to, None))
    };
    let nodes = world.nodes(reaches, pod, direction).into_iter();
    let of_nodes = nodes.map(|(address, [before, after])| (End::Node(address), Delta::of(&before, &after)));
    let ranges = world.ranges(reaches, pod, direction).into_iter();
    let ranges = ranges.map(|(range, [before, after])| (range, Delta::of(&before, &after)));
    let of_world = join(ranges).into_iter().map(|(range, delta)| (End::World(range), delta));
    of_nodes.chain(of_world).filter_map(change).collect()
}
