//! Who may talk to whom, as tables: what each rule allows between workloads, and with addresses. A reader of the tables
//! can judge any flow as the reference evaluator does, which filled them.

mod links;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::input::{Direction, Family, IpBlock, NamespacedName, Peer, Peers, Pod, State};

use crate::policy::ports;
use crate::reach::{PortSet, Reach, Workload, titles, workloads};
use crate::words::near::of_peer;

pub use links::{End, Link, Scope, links};
use table::Table;

/// The tables.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The policies, by name.
    pub policies: Vec<NamespacedName>,
    /// Every rule of every policy.
    pub rules: Vec<Rule>,
    /// The workloads, by name.
    pub workloads: Vec<Vertex>,
    /// The nodes, by name.
    pub nodes: BTreeMap<Arc<str>, Node>,
}

/// A rule of a policy.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The position of its policy in the list of policies.
    pub policy: usize,
    /// The direction.
    pub direction: Direction,
    /// Its position in `spec.egress` or `spec.ingress`.
    pub index: usize,
    /// Whether it has no peers, so that every address is one.
    pub everyone: bool,
    /// Its `ipBlock` peers.
    pub blocks: Vec<IpBlock>,
    /// Its peers and ports in words.
    pub text: String,
}

/// A workload.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// Its name, which no other one has.
    pub name: String,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its pods.
    pub pods: Vec<Member>,
    /// What its own policies allow: egress, ingress.
    pub sides: [Side; 2],
}

/// A pod of a workload.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub key: NamespacedName,
    /// Its node.
    pub node: Option<Arc<str>>,
    /// Its IPs.
    pub addresses: Vec<IpAddr>,
    /// Whether one of its IPs is another pod's too, or no more its own: the tables do not tell what it may then.
    pub unclear: bool,
}

/// What the policies of a workload allow in a direction.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// The policies that isolate it; if there are none, everything is allowed.
    pub isolated_by: Vec<usize>,
    /// What their rules allow with workloads.
    pub grants: Vec<Grant>,
    /// Their rules that may apply to addresses, and the ports at an address.
    pub addresses: Vec<(usize, PortSet)>,
}

/// What a rule allows with some workloads.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The rule.
    pub rule: usize,
    /// The family, if the other one is not allowed too.
    pub family: Option<Family>,
    /// The ports.
    pub ports: PortSet,
    /// The workloads.
    pub peers: BTreeSet<usize>,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its known IPs.
    pub addresses: BTreeSet<IpAddr>,
    /// The pods on its network; unclear are those with an IP that another pod has.
    pub pods: Vec<Member>,
}

impl Side {
    /// Whether a policy isolates the workload in this direction.
    pub fn is_isolated(&self) -> bool {
        !self.isolated_by.is_empty()
    }
}

impl Vertex {
    /// A direction of it.
    pub fn side(&self, direction: Direction) -> &Side {
        let [egress, ingress] = &self.sides;
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }
}

/// Fills the tables.
pub fn graph(state: &State, facts: &NodeFacts) -> Graph {
    let reach = Reach::new(state, facts);
    let found = workloads(&[state]);
    let mut graph = Graph { nodes: nodes(&reach, facts), ..Graph::default() };
    let mut numbers = BTreeMap::new();
    for (key, policy) in &state.policies {
        let number = graph.policies.len();
        graph.policies.push(key.clone());
        for direction in Direction::ALL {
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                numbers.insert((key, direction, index), graph.rules.len());
                graph.rules.push(rule_of(number, direction, index, rule));
            }
        }
    }
    let policies: BTreeMap<_, _> = graph.policies.iter().enumerate().map(|(number, key)| (key, number)).collect();
    let table = Table { reach: &reach, rules: &numbers, policies: &policies };
    let titles = titles(&found.iter().collect::<Vec<_>>());
    let groups: Vec<_> = found.iter().map(|workload| members(&reach, workload)).collect();
    let sides = table.sides(&groups);
    let vertices = titles.into_iter().zip(found).zip(groups).zip(sides);
    graph.workloads = vertices
        .map(|(((name, workload), pods), sides)| Vertex { name, namespace: workload.key.namespace, pods, sides })
        .collect();
    graph
}

fn rule_of(policy: usize, direction: Direction, index: usize, rule: &palisade_policy::input::Rule) -> Rule {
    let peers: Vec<_> = rule.peers.list().iter().map(of_peer).collect();
    let everyone = rule.peers == Peers::Any;
    let blocks = rule.peers.list().iter().filter_map(|peer| match peer {
        Peer::IpBlock(block) => Some(block.clone()),
        Peer::Pods { .. } | Peer::Unmatchable => None,
    });
    let peers = if everyone { "every peer".to_owned() } else { peers.join(" or ") };
    let preposition = match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    let text = format!("{preposition} {peers}: {}", ports(&rule.ports));
    Rule { policy, direction, index, everyone, blocks: blocks.collect(), text }
}

/// The pods of a workload; those that are unclear last.
fn members(reach: &Reach<'_>, workload: &Workload) -> Vec<Member> {
    let pods = workload.pods.iter().filter_map(|key| reach.state().pod(key));
    let member = |pod: &Pod| member(pod, pod.addresses.iter().any(|address| !owns(reach, pod, address)));
    let mut members: Vec<_> = pods.map(member).collect();
    members.sort_by_key(|member| member.unclear);
    members
}

fn member(pod: &Pod, unclear: bool) -> Member {
    Member { key: pod.key.clone(), node: pod.node.clone(), addresses: pod.addresses.iter().collect(), unclear }
}

/// Whether an IP in a pod's status is its own and nobody else's.
fn owns(reach: &Reach<'_>, pod: &Pod, address: IpAddr) -> bool {
    let flow = with_an_address(Endpoint::Pod(pod.key.clone()), Family::of(address));
    let considered = reach.reference().consider(&flow);
    considered.is_ok_and(|found| found.ends.from.the_pod().is_some_and(|owner| owner.key == pod.key))
}

/// Whether some pod has an IP of a pod on its node's network.
fn has_pod(reach: &Reach<'_>, pod: &Pod, address: IpAddr) -> bool {
    let flow = with_an_address(Endpoint::Pod(pod.key.clone()), Family::of(address));
    reach.reference().consider(&flow).is_ok_and(|found| !found.ends.from.pods.is_empty())
}

/// A flow to an address that nobody has.
fn with_an_address(from: Endpoint, family: Family) -> Flow {
    let nobody = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Flow { from, to: Endpoint::Address(nobody), transport: Transport::Portless, family: Some(family) }
}

/// The nodes that the objects name, with their IPs.
fn nodes(reach: &Reach<'_>, facts: &NodeFacts) -> BTreeMap<Arc<str>, Node> {
    let mut nodes: BTreeMap<Arc<str>, Node> = BTreeMap::new();
    for pod in reach.state().every_pod() {
        let Some(name) = &pod.node else { continue };
        let node = nodes.entry(Arc::clone(name)).or_default();
        node.addresses.extend(&pod.host_addresses);
        if pod.host_network {
            node.addresses.extend(pod.addresses.iter());
            let unclear = pod.addresses.iter().any(|address| has_pod(reach, pod, address));
            node.pods.push(member(pod, unclear));
        }
    }
    for (name, addresses) in &facts.addresses {
        nodes.entry(Arc::clone(name)).or_default().addresses.extend(addresses);
    }
    nodes
}
