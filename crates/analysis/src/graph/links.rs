//! What a picture of the tables shows: links between workloads, namespaces and addresses.
//!
//! A link is drawn where a policy of one of its ends decides. Between workloads that nobody isolates, everything is
//! allowed, and nothing is drawn. What a rule without peers allows is one link with anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_policy::input::{Direction, Family, IpBlock};

use super::{Graph, Side, Vertex};
use crate::reach::PortSet;

/// How many different ipBlocks are ends of their own; beyond that, they are one.
const BLOCKS: usize = 16;

/// For each workload that is missing, so many must be present for a namespace to be one end.
const PRESENT: usize = 4;

/// An end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A workload, by its number.
    Workload(usize),
    /// Every workload of a namespace but these.
    Namespace(Arc<str>, BTreeSet<usize>),
    /// Every workload.
    Every,
    /// Anyone: every address, and every pod that no policy isolates in the direction of the link.
    Anyone,
    /// An `ipBlock`.
    Block(IpBlock),
    /// This many `ipBlock`s.
    Blocks(usize),
}

/// What one end may send to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The client.
    pub from: End,
    /// The server.
    pub to: End,
    /// The ports, in one family or both.
    pub ports: PortSet,
}

/// Which links are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'s> {
    /// All.
    All,
    /// Those of the workloads of a namespace.
    Namespace(&'s str),
    /// Those of a workload.
    Workload(usize),
}

/// Two workloads, or a workload and a block, by what may pass.
type Cells<T> = BTreeMap<PortSet, BTreeSet<T>>;

/// The links, those of every workload of a namespace, or of all, as one.
pub fn links(graph: &Graph, scope: Scope<'_>) -> Vec<Link> {
    let units = Units::of(graph);
    let mut links = Vec::new();
    for (ports, cells) in between(graph, scope) {
        let mut by_server: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        cells.iter().for_each(|(from, to)| _ = by_server.entry(*to).or_default().insert(*from));
        let mut by_client: BTreeMap<End, BTreeSet<usize>> = BTreeMap::new();
        for (server, clients) in &by_server {
            for unit in units.fold(clients, graph.single(*server)) {
                by_client.entry(unit).or_default().insert(*server);
            }
        }
        for (from, servers) in by_client {
            let own = if let End::Workload(own) = from { graph.single(own) } else { None };
            let to = units.fold(&servers, own).into_iter();
            links.extend(to.map(|to| Link { from: from.clone(), to, ports: ports.clone() }));
        }
    }
    for direction in Direction::ALL {
        for ((block, ports), workloads) in with_addresses(graph, scope, direction) {
            for unit in units.fold(&workloads, None) {
                let (from, to) = match direction {
                    Direction::Egress => (unit, block.clone()),
                    Direction::Ingress => (block.clone(), unit),
                };
                links.push(Link { from, to, ports: ports.clone() });
            }
        }
    }
    links
}

/// What may pass between workloads, if a policy of one of them decides.
fn between(graph: &Graph, scope: Scope<'_>) -> Cells<(usize, usize)> {
    let by_peer = |vertex: &Vertex, direction| ByPeer::of(vertex.side(direction));
    let tables: Vec<_> =
        graph.workloads.iter().map(|vertex| Direction::ALL.map(|direction| by_peer(vertex, direction))).collect();
    let mut cells: Cells<(usize, usize)> = BTreeMap::new();
    for (number, [egress, _]) in tables.iter().enumerate() {
        for (other, [_, ingress]) in tables.iter().enumerate() {
            let is_asked = is_in(graph, scope, number) || is_in(graph, scope, other);
            if !is_asked || (egress.is_open() && ingress.is_open()) {
                continue;
            }
            if number == other && graph.single(number).is_some() {
                continue;
            }
            let [four, six] = Family::ALL.map(|family| egress.with(other, family).and(&ingress.with(number, family)));
            let ports = four.or(&six);
            // Where one end alone decides, its link with anyone has the rest.
            let ports = match (egress.is_open(), ingress.is_open()) {
                (true, _) => ports.without(&anyone(graph, other, Direction::Ingress)),
                (_, true) => ports.without(&anyone(graph, number, Direction::Egress)),
                (false, false) => ports,
            };
            if !ports.is_empty() {
                cells.entry(ports).or_default().insert((number, other));
            }
        }
    }
    cells
}

impl Graph {
    /// The workload, if it has no two pods: a single pod is no peer of itself.
    fn single(&self, workload: usize) -> Option<usize> {
        self.workloads.get(workload).is_none_or(|vertex| vertex.pods.len() < 2).then_some(workload)
    }
}

/// What the rules without peers of a workload allow.
fn anyone(graph: &Graph, workload: usize, direction: Direction) -> PortSet {
    let side = graph.workloads.get(workload).map(|vertex| vertex.side(direction));
    let rules = side.into_iter().flat_map(|side| &side.addresses);
    let everyone = rules.filter(|(rule, _)| graph.rules.get(*rule).is_some_and(|rule| rule.everyone));
    everyone.fold(PortSet::nothing(), |all, (_, ports)| all.or(ports))
}

fn is_in(graph: &Graph, scope: Scope<'_>, workload: usize) -> bool {
    match scope {
        Scope::All => true,
        Scope::Workload(own) => own == workload,
        Scope::Namespace(own) => graph.workloads.get(workload).is_some_and(|vertex| &*vertex.namespace == own),
    }
}

/// What the rules of an end allow, by workload: over IPv4, over IPv6. `None` if nobody isolates it.
struct ByPeer(Option<[BTreeMap<usize, PortSet>; 2]>);

impl ByPeer {
    fn of(side: &Side) -> Self {
        if !side.is_isolated() {
            return Self(None);
        }
        let of_family = |family| {
            let mut all: BTreeMap<usize, PortSet> = BTreeMap::new();
            for grant in side.grants.iter().filter(|grant| grant.family.is_none_or(|own| own == family)) {
                for peer in &grant.peers {
                    let known = all.entry(*peer).or_default();
                    *known = known.or(&grant.ports);
                }
            }
            all
        };
        Self(Some(Family::ALL.map(of_family)))
    }

    fn is_open(&self) -> bool {
        self.0.is_none()
    }

    fn with(&self, peer: usize, family: Family) -> PortSet {
        let Some([four, six]) = &self.0 else { return PortSet::everything() };
        let all = match family {
            Family::V4 => four,
            Family::V6 => six,
        };
        all.get(&peer).cloned().unwrap_or_default()
    }
}

/// What workloads may exchange with addresses.
fn with_addresses(graph: &Graph, scope: Scope<'_>, direction: Direction) -> BTreeMap<(End, PortSet), BTreeSet<usize>> {
    let mut by_end: BTreeMap<(End, usize), PortSet> = BTreeMap::new();
    for (number, vertex) in graph.workloads.iter().enumerate().filter(|(number, _)| is_in(graph, scope, *number)) {
        for (rule, ports) in &vertex.side(direction).addresses {
            let Some(rule) = graph.rules.get(*rule) else { continue };
            let world = rule.everyone.then_some(End::Anyone);
            let blocks = rule.blocks.iter().map(|block| End::Block(block.clone()));
            for end in blocks.chain(world) {
                let known = by_end.entry((end, number)).or_default();
                *known = known.or(ports);
            }
        }
    }
    let blocks: BTreeSet<_> =
        by_end.keys().map(|(end, _)| end).filter(|end| matches!(end, End::Block(_))).cloned().collect();
    let mut cells: BTreeMap<(End, PortSet), BTreeSet<usize>> = BTreeMap::new();
    for ((end, number), ports) in by_end {
        let end = if blocks.len() > BLOCKS && blocks.contains(&end) { End::Blocks(blocks.len()) } else { end };
        cells.entry((end, ports)).or_default().insert(number);
    }
    cells
}

/// The workloads that can be one end together.
struct Units {
    every: BTreeSet<usize>,
    namespaces: BTreeMap<Arc<str>, BTreeSet<usize>>,
}

impl Units {
    fn of(graph: &Graph) -> Self {
        let mut namespaces: BTreeMap<Arc<str>, BTreeSet<usize>> = BTreeMap::new();
        for (number, vertex) in graph.workloads.iter().enumerate() {
            namespaces.entry(Arc::clone(&vertex.namespace)).or_default().insert(number);
        }
        Self { every: (0..graph.workloads.len()).collect(), namespaces }
    }

    /// These workloads with as few ends as possible. It does not matter whether `own` is among them.
    fn fold(&self, workloads: &BTreeSet<usize>, own: Option<usize>) -> Vec<End> {
        let missing = |all: &BTreeSet<usize>| -> BTreeSet<usize> {
            all.difference(workloads).copied().filter(|number| Some(*number) != own).collect()
        };
        let present =
            |all: &BTreeSet<usize>| all.intersection(workloads).filter(|number| Some(**number) != own).count();
        if self.namespaces.len() > 1 && present(&self.every) > 1 && missing(&self.every).is_empty() {
            return vec![End::Every];
        }
        let mut rest = workloads.clone();
        let mut ends = Vec::new();
        for (name, all) in &self.namespaces {
            let (missing, present) = (missing(all), present(all));
            if present > 1 && missing.len() * PRESENT <= present {
                rest.retain(|one| !all.contains(one));
                ends.push(End::Namespace(Arc::clone(name), missing));
            }
        }
        ends.extend(rest.into_iter().map(End::Workload));
        ends
    }
}
