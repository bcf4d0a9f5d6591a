//! The reference evaluator: may this flow pass, and which rule decides?
//!
//! It is written to be compared with the API's text clause by clause, not to be fast: it scans lists, and it has its
//! own label matcher, CIDR matcher and port comparison (`membership`, `terms`), so it does not share the engine's
//! errors. It sees the rest of the crate only through [`crate::input`] and [`crate::flow`]; a test enforces that.
//!
//! [`Reference::consider`] walks every policy, rule and term that may apply to a flow, and returns how far each
//! matched; [`Reference::evaluate`] stops that walk at the first rule that allows.
//!
//! Clause numbers below are those of docs/semantics.md.

mod consider;
mod ends;
mod membership;
mod terms;
#[cfg(test)]
mod tests;
mod uncertain;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::flow::{Decision, Flow, FlowError, Judgement, NodeFacts, Reason, Verdict};
use crate::input::{Direction, Pod, Policy, State};

pub use consider::{Considered, ConsideredPolicy, ConsideredRule, Side};
pub use ends::{End, Ends};
pub use membership::Selection;
use membership::is_selected;
pub use terms::{PeerMatch, PortMatch};

/// Judges one flow. For many flows over the same objects, build a [`Reference`] once.
pub fn evaluate(state: &State, facts: &NodeFacts, flow: &Flow) -> Result<Judgement, FlowError> {
    Reference::new(state, facts).evaluate(flow)
}

/// The reference evaluator over one state of the cluster.
#[derive(Debug)]
pub struct Reference<'a> {
    state: &'a State,
    facts: &'a NodeFacts,
    /// The live pods that have an IP in their status.
    claimants: BTreeMap<IpAddr, Vec<&'a Pod>>,
    /// The known IPs of each node.
    node_addresses: BTreeMap<&'a str, BTreeSet<IpAddr>>,
}

impl<'a> Reference<'a> {
    /// Collects the pods of each IP and the IPs of each node; nothing else is precomputed.
    pub fn new(state: &'a State, facts: &'a NodeFacts) -> Self {
        let mut claimants: BTreeMap<IpAddr, Vec<&'a Pod>> = BTreeMap::new();
        let mut node_addresses: BTreeMap<&'a str, BTreeSet<IpAddr>> = BTreeMap::new();
        for pod in state.every_pod() {
            for address in pod.claims() {
                claimants.entry(address).or_default().push(pod);
            }
            if let Some(node) = &pod.node {
                let known = node_addresses.entry(node).or_default();
                known.extend(&pod.host_addresses);
                // 1.5: the IPs of a hostNetwork pod are its node's.
                if pod.host_network {
                    known.extend(pod.addresses.iter());
                }
            }
        }
        for (node, addresses) in &facts.addresses {
            node_addresses.entry(node).or_default().extend(addresses);
        }
        Self { state, facts, claimants, node_addresses }
    }

    /// Judges one flow. 1.1 clause 4: the client's egress and the server's ingress must both allow it; replies are part
    /// of the flow.
    pub fn evaluate(&self, flow: &Flow) -> Result<Judgement, FlowError> {
        Ok(self.consider(flow)?.judgement())
    }

    /// The isolated starting pods that an unclaimed IP of a node's pod range may belong to.
    fn starting(&self, direction: Direction, end: &End<'_>) -> Vec<&'a Pod> {
        let Some(address) = end.address.filter(|_| end.node.is_none()) else { return Vec::new() };
        let is_unclaimed = |node: &str| {
            let is_nodes = self.node_addresses.get(node).is_some_and(|known| known.contains(&address));
            !is_nodes && !end.pods.iter().any(|pod| pod.node.as_deref() == Some(node))
        };
        let ranges = self.facts.pod_ranges.iter();
        let nodes: Vec<_> = ranges
            .filter(|(node, ranges)| ranges.iter().any(|range| range.contains(&address)) && is_unclaimed(node))
            .map(|(node, _)| node)
            .collect();
        if nodes.is_empty() {
            return Vec::new();
        }
        let is_starting = |pod: &&Pod| {
            // A terminating pod's status keeps its last IP.
            let has_no_address = pod.addresses.iter().all(|address| pod.host_addresses.contains(&address))
                || (pod.awaits_network && !pod.terminating);
            let is_here = pod.node.as_ref().is_some_and(|node| nodes.contains(&node));
            is_here && has_no_address && !pod.host_network && !pod.phase.is_terminal()
        };
        let pods = self.state.every_pod().filter(is_starting);
        pods.filter(|pod| !self.isolating(direction, &[pod]).is_empty()).collect()
    }

    /// The policies, by name, that isolate at least one of these pods in a direction (1.1 clause 1).
    fn isolating(&self, direction: Direction, pods: &[&Pod]) -> Vec<&'a Policy> {
        let policies = self.state.policies.values();
        policies.filter(|policy| isolates(policy, direction, pods)).collect()
    }

    /// Whether an end is the node that one of these pods runs on. A pod never is, whatever its IP.
    fn is_own_node(&self, pods: &[&Pod], end: &End<'_>) -> bool {
        pods.iter().any(|pod| {
            // By name, or, if a name is missing, by the node IPs of the other end.
            let is_named = match (end.node, pod.node.as_deref()) {
                (Some(one), Some(other)) => one == other,
                (None, _) | (_, None) => end.host_addresses.iter().any(|address| self.is_node_of(pod, *address)),
            };
            is_named || (end.pods.is_empty() && end.address.is_some_and(|address| self.is_node_of(pod, address)))
        })
    }

    /// Section 4: a node's IPs are its pods' `status.hostIPs` and those that the user adds.
    fn is_node_of(&self, pod: &Pod, address: IpAddr) -> bool {
        let known = pod.node.as_deref().and_then(|node| self.node_addresses.get(node));
        pod.host_addresses.contains(&address) || known.is_some_and(|known| known.contains(&address))
    }
}

/// Whether a policy isolates one of these pods in a direction (1.1 clause 1).
fn isolates(policy: &Policy, direction: Direction, pods: &[&Pod]) -> bool {
    let selects =
        |pod: &&Pod| pod.key.namespace == policy.key.namespace && is_selected(&policy.pod_selector, &pod.labels);
    policy.isolates.in_direction(direction) && pods.iter().any(selects)
}

/// Whether both ends are the same pod, or have the same IP.
fn is_same_end(one: &End<'_>, other: &End<'_>) -> bool {
    let same_pod = one.the_pod().is_some_and(|pod| other.the_pod().is_some_and(|found| found.key == pod.key));
    same_pod || (one.address.is_some() && one.address == other.address)
}

fn allow(reason: Reason) -> Decision {
    Decision { verdict: Verdict::Allow, reason }
}

fn deny(reason: Reason) -> Decision {
    Decision { verdict: Verdict::Deny, reason }
}
