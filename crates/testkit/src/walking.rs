//! A flow through the rulesets of all nodes on its path, by the packet walk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::flow::{Flow, NodeFacts, Verdict};
use palisade_policy::index::Index;
use palisade_policy::input::{Addresses, Pod, State};
use palisade_policy::reference::Ends;
use palisade_ruleset::cache::Slice;
use palisade_ruleset::model::{Hook, Ruleset};
use palisade_ruleset::render::{Established, Options, render};
use palisade_ruleset::walk::{End, Invalid, Packet, Walk, walk};

use crate::table::with_stamp;

/// The interface of the pods of every node.
const POD_PORT: &str = "pods";

/// A node: its ruleset and its addresses.
#[derive(Debug)]
pub struct Node {
    /// The local IPs in the compiled policy.
    pub local: BTreeSet<IpAddr>,
    /// The node's pod ranges.
    pub pod_ranges: BTreeSet<IpNet>,
    /// The node's own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The ruleset.
    pub ruleset: Ruleset,
}

/// The nodes of a cluster, each with its ruleset.
#[derive(Debug)]
pub struct Nodes {
    nodes: BTreeMap<Arc<str>, Node>,
    /// IPs that both a node and a pod claim: the owner of their packets is unknown.
    contested: BTreeSet<IpAddr>,
}

/// The fate of a packet on its way through the nodes.
#[derive(Debug)]
pub struct Way {
    /// Whether it arrived.
    pub verdict: Verdict,
    /// The rules that it traversed, for failure messages.
    pub steps: Vec<String>,
}

impl Nodes {
    /// Renders the ruleset of every node that a pod names.
    pub fn render(state: &State, facts: &NodeFacts) -> Self {
        let mut nodes = BTreeMap::new();
        for name in state.every_pod().filter_map(|pod| pod.node.clone()).collect::<BTreeSet<_>>() {
            let index = Index::build(name.clone(), state);
            let mut addresses: BTreeSet<IpAddr> = facts.addresses.get(&name).cloned().unwrap_or_default();
            for pod in state.every_pod().filter(|pod| pod.node.as_ref() == Some(&name)) {
                addresses.extend(&pod.host_addresses);
                if pod.host_network {
                    addresses.extend(pod.addresses.iter());
                }
            }
            let local = index.compiled().local.keys().copied().collect();
            let pod_ranges = facts.pod_ranges.get(&name).cloned().unwrap_or_default();
            let options = Options {
                allow_egress_to_own_node: facts.allow_egress_to_own_node,
                pod_ranges: pod_ranges.clone(),
                pod_interfaces: BTreeSet::from([POD_PORT.to_owned()]),
                established: Established::Remember,
                ..Options::default()
            };
            let ruleset = with_stamp(render(index.compiled(), &options), Slice::default().first());
            nodes.insert(name, Node { local, pod_ranges, addresses, ruleset });
        }
        let from_status =
            state.every_pod().flat_map(|pod| &pod.host_addresses).chain(facts.addresses.values().flatten());
        let known: BTreeSet<IpAddr> = from_status.copied().collect();
        let claims = state.every_pod().flat_map(Pod::claims);
        let contested = claims.filter(|address| known.contains(address)).collect();
        Self { nodes, contested }
    }

    /// Sends the first packet of a flow, and its reply, through every node that either end is on; then both again, with
    /// the stamps that the first packet left. `None` if an end has no IP.
    pub fn send(&self, flow: &Flow, ends: &Ends<'_>) -> Result<Option<[Way; 4]>, Invalid> {
        let (Some(from), Some(to)) = (ends.from.address, ends.to.address) else { return Ok(None) };
        // Broadcast, multicast and link-local addresses belong to no pod; the ruleset treats them separately, and
        // tests/it/bypass.rs too.
        if [from, to].into_iter().any(|address| Addresses::accept([address]).0.is_empty()) {
            return Ok(None);
        }
        let mut ways = [(); 4].map(|()| Way { verdict: Verdict::Allow, steps: Vec::new() });
        // Skip: the pod has an IP but no node, or pods on two nodes have the IP; no single ruleset decides.
        for end in [&ends.from, &ends.to] {
            let nodes: BTreeSet<_> = end.pods.iter().map(|pod| pod.node.as_ref()).collect();
            if nodes.contains(&None) || nodes.len() > 1 {
                return Ok(None);
            }
            // Skip: the IP is in another node's pod range.
            let elsewhere = |(name, node): (&Arc<str>, &Node)| {
                end.address.is_some_and(|address| node.is_in_range(address)) && !nodes.contains(&Some(name))
            };
            if !nodes.is_empty() && self.nodes.iter().any(elsewhere) {
                return Ok(None);
            }
        }
        if [from, to].iter().any(|address| self.contested.contains(address)) {
            return Ok(None);
        }
        // A node's packets to its own pods leave through the output hook, where Palisade has no chain.
        let is_own = |name: &Arc<str>, node: &Node| {
            let by_address = ends.from.pods.is_empty() && node.addresses.contains(&from);
            (by_address || ends.from.node == Some(name.as_ref())) && node.may_have_pod(to)
        };
        if self.nodes.iter().any(|(name, node)| is_own(name, node)) {
            return Ok(Some(ways));
        }
        for (name, node) in &self.nodes {
            if !node.may_have_pod(from) && !node.may_have_pod(to) {
                continue;
            }
            let to_node = ends.to.pods.is_empty() && node.addresses.contains(&to);
            let hook = if to_node { Hook::Input } else { Hook::Forward };
            let input_interface = node.may_have_pod(from).then(|| POD_PORT.to_owned());
            let request = Packet { input_interface, ..Packet::request(hook, from, to, flow.transport) };
            // A node's replies leave through its output hook: only the request is judged.
            let reply = if hook == Hook::Forward { request.reply(hook) } else { request.clone() };
            let [way, back, later, later_back] = &mut ways;
            let first = way.pass(name, &node.ruleset, &request)?;
            back.pass(name, &node.ruleset, &reply)?;
            later.pass(name, &node.ruleset, &request.after(&first))?;
            later_back.pass(name, &node.ruleset, &reply.after(&first))?;
        }
        Ok(Some(ways))
    }
}

impl Node {
    /// Whether packets from and to an IP pass this node because it is a pod's there, known or not.
    fn may_have_pod(&self, address: IpAddr) -> bool {
        self.local.contains(&address) || (self.is_in_range(address) && !self.addresses.contains(&address))
    }

    fn is_in_range(&self, address: IpAddr) -> bool {
        self.pod_ranges.iter().any(|range| range.contains(&address))
    }
}

impl Way {
    fn pass(&mut self, node: &str, ruleset: &Ruleset, packet: &Packet) -> Result<Walk, Invalid> {
        let walked = walk(ruleset, packet)?;
        self.steps.extend(walked.steps.iter().map(|step| format!("{node}: {step}")));
        if walked.end == End::Drop {
            self.verdict = Verdict::Deny;
        }
        Ok(walked)
    }
}
