//! The reference evaluator: may this flow pass, and which rule says so?
//!
//! Written to be compared with the API's text clause by clause, not to be fast: it scans lists, and it has its own
//! label matcher, CIDR parser and port comparison (`membership`), so that it does not share the engine's errors. It
//! sees the rest of the crate only through [`crate::input`] and [`crate::flow`]; a test enforces that.
//!
//! Clause numbers below are those of docs/semantics.md.

mod ends;
mod membership;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::flow::{Decision, Flow, FlowError, Judgement, NodeFacts, Reason, Transport, Verdict};
use crate::input::{
    ContainerPort, Direction, NamespaceScope, NamespacedName, Peer, Peers, Pod, Policy, Port, Ports, Rule, State,
};

pub use ends::{End, Ends};
use membership::{is_in_block, is_selected};

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
    /// The IPs of each node, as far as known.
    node_addresses: BTreeMap<&'a str, BTreeSet<IpAddr>>,
}

impl<'a> Reference<'a> {
    /// Lists which pods have which IP and which IPs a node has; nothing else is precomputed.
    pub fn new(state: &'a State, facts: &'a NodeFacts) -> Self {
        let mut claimants: BTreeMap<IpAddr, Vec<&'a Pod>> = BTreeMap::new();
        let mut node_addresses: BTreeMap<&'a str, BTreeSet<IpAddr>> = BTreeMap::new();
        for pod in state.pods.values() {
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
        let ends = self.ends(flow)?;
        let egress = self.decide(Direction::Egress, &ends, flow.transport);
        let ingress = self.decide(Direction::Ingress, &ends, flow.transport);
        Ok(Judgement { verdict: egress.verdict.and(ingress.verdict), egress, ingress })
    }

    /// The verdict of one end's policies on a flow between these ends.
    fn decide(&self, direction: Direction, ends: &Ends<'a>, transport: Transport) -> Decision {
        let (subject, peer) = match direction {
            Direction::Egress => (&ends.from, &ends.to),
            Direction::Ingress => (&ends.to, &ends.from),
        };
        // 1.5 "Start-up": isolated from the first instant, before its IP is known.
        let starting = self.starting(direction, subject);
        if !starting.is_empty() {
            return match direction {
                Direction::Ingress if self.is_own_node(&starting, peer) => allow(Reason::OwnNode),
                Direction::Egress if self.facts.allow_egress_to_own_node && self.is_own_node(&starting, peer) => {
                    allow(Reason::ToOwnNode)
                }
                _ => deny(Reason::Starting { pods: starting.iter().map(|pod| pod.key.clone()).collect() }),
            };
        }
        // 1.5, section 4: hostNetwork and finished pods, nodes and everything outside the cluster are not subjects.
        if subject.pods.is_empty() {
            return allow(Reason::NotAPod);
        }
        // 1.6 "Self": a pod cannot block access to itself.
        if is_the_same(subject, peer) {
            return allow(Reason::Itself);
        }
        // 1.1 clause 1: isolated if a policy of its namespace selects it and has the direction in policyTypes; if not,
        // everything is allowed. Section 4: an IP claimed twice is isolated if any of the claimants is.
        let isolating = self.isolating(direction, &subject.pods);
        if isolating.is_empty() {
            return allow(Reason::NotIsolated);
        }
        match direction {
            // 1.1 clause 2: ... plus any traffic from the pod's own node.
            Direction::Ingress if self.is_own_node(&subject.pods, peer) => return allow(Reason::OwnNode),
            // 1.1 clause 3, 1.6, section 4: egress to the pod's own node is judged like any other unless the user lifts
            // it.
            Direction::Egress if self.facts.allow_egress_to_own_node && self.is_own_node(&subject.pods, peer) => {
                return allow(Reason::ToOwnNode);
            }
            Direction::Ingress | Direction::Egress => {}
        }
        // Section 4: no rule applies to an isolated IP of an unknown pod.
        if subject.pods.len() > 1 {
            return deny(Reason::ClaimedTwice { pods: subject.pods.iter().map(|pod| pod.key.clone()).collect() });
        }
        // 1.1 clauses 2, 3 and 5: the union of the rules of all these policies; there is no order and no deny.
        for policy in &isolating {
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                if self.rule_allows(rule, policy, peer, &ends.to, transport) {
                    return allow(Reason::Rule { policy: policy.key.clone(), direction, index });
                }
            }
        }
        deny(Reason::NoRule { policies: isolating.into_iter().map(|policy| policy.key.clone()).collect() })
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
        let pods = self.state.pods.values().filter(is_starting);
        pods.filter(|pod| !self.isolating(direction, &[pod]).is_empty()).collect()
    }

    /// The policies, by name, that isolate at least one of these pods in a direction (1.1 clause 1).
    fn isolating(&self, direction: Direction, pods: &[&Pod]) -> Vec<&'a Policy> {
        let selects = |policy: &Policy| {
            pods.iter()
                .any(|pod| pod.key.namespace == policy.key.namespace && is_selected(&policy.pod_selector, &pod.labels))
        };
        let policies = self.state.policies.values();
        policies.filter(|policy| policy.isolates.in_direction(direction) && selects(policy)).collect()
    }

    /// A rule allows what matches one of its peers and one of its ports (1.2).
    fn rule_allows(
        &self,
        rule: &Rule,
        policy: &Policy,
        peer: &End<'_>,
        server: &End<'_>,
        transport: Transport,
    ) -> bool {
        self.is_any_peer(&rule.peers, &policy.key, peer) && is_any_port(&rule.ports, server, transport)
    }

    fn is_any_peer(&self, peers: &Peers, policy: &NamespacedName, end: &End<'_>) -> bool {
        match peers {
            // 1.2: from/to missing or empty: any peer, cluster-external and node addresses included.
            Peers::Any => true,
            // 1.2: list items are alternatives.
            Peers::Of(list) => list.iter().any(|peer| self.is_peer(peer, policy, end)),
        }
    }

    fn is_peer(&self, peer: &Peer, policy: &NamespacedName, end: &End<'_>) -> bool {
        match peer {
            // 1.2: selectors mean live pods, never other addresses; both selectors in one item must match.
            // Section 4: no selector matches an IP claimed twice.
            Peer::Pods { namespaces, pods } => end.the_pod().is_some_and(|pod| {
                self.is_namespace_meant(namespaces, policy, &pod.key.namespace) && is_selected(pods, &pod.labels)
            }),
            // 1.2, 1.3: by IP alone, whichever pod has it. A pod without an IP is in no block.
            Peer::IpBlock(block) => end.address.is_some_and(|address| is_in_block(block, address)),
            // Section 4: a term that cannot be enforced matches nothing.
            Peer::Unmatchable => false,
        }
    }

    fn is_namespace_meant(&self, scope: &NamespaceScope, policy: &NamespacedName, namespace: &str) -> bool {
        match scope {
            // 1.2: without namespaceSelector, the policy's own namespace. Its object is not needed for that.
            NamespaceScope::Own => *policy.namespace == *namespace,
            // Section 4: no namespaceSelector, not even `{}`, matches a namespace whose object has not been seen.
            NamespaceScope::Matching(selector) => {
                self.state.namespaces.get(namespace).is_some_and(|found| is_selected(selector, &found.labels))
            }
        }
    }

    /// Whether an end is the node that one of these pods runs on. A pod never is, whatever its IP.
    fn is_own_node(&self, pods: &[&Pod], end: &End<'_>) -> bool {
        pods.iter().any(|pod| {
            // By name, or if a name is missing, by what the other end says about the node.
            let is_named = match (end.node, pod.node.as_deref()) {
                (Some(one), Some(other)) => one == other,
                (None, _) | (_, None) => end.host_addresses.iter().any(|address| self.is_node_of(pod, *address)),
            };
            is_named || (end.pods.is_empty() && end.address.is_some_and(|address| self.is_node_of(pod, address)))
        })
    }

    /// Section 4: a node's IPs are its pods' `status.hostIPs` and what the user adds.
    fn is_node_of(&self, pod: &Pod, address: IpAddr) -> bool {
        let known = pod.node.as_deref().and_then(|node| self.node_addresses.get(node));
        pod.host_addresses.contains(&address) || known.is_some_and(|known| known.contains(&address))
    }
}

/// The same pod, or the same IP, whichever pod has it.
fn is_the_same(one: &End<'_>, other: &End<'_>) -> bool {
    let same_pod = one.the_pod().is_some_and(|pod| other.the_pod().is_some_and(|found| found.key == pod.key));
    same_pod || (one.address.is_some() && one.address == other.address)
}

fn is_any_port(ports: &Ports, server: &End<'_>, transport: Transport) -> bool {
    match (ports, transport) {
        // 1.2: ports missing or empty: any port, any protocol.
        (Ports::Any, _) => true,
        // Section 4: ICMP echo and other protocols only through a rule without ports.
        (Ports::Of(_), Transport::Portless) => false,
        (Ports::Of(list), Transport::Port(protocol, number)) => list.iter().any(|port| match port {
            // 1.2: a protocol without port: all ports of it, and of no other.
            Port::All(named) => *named == protocol,
            // 1.3: port to endPort, both included.
            Port::Range { protocol: named, first, last } => *named == protocol && *first <= number && number <= *last,
            // 1.4: resolved on the destination pod in both directions, by name and protocol; every container that
            // declares the name counts. An end that is not one known pod declares nothing, so the term matches nothing.
            Port::Named { protocol: named, name } => server.the_pod().is_some_and(|pod| {
                let meant = ContainerPort { name: name.clone(), protocol: *named, port: number };
                *named == protocol && pod.ports.contains(&meant)
            }),
            Port::Unmatchable => false,
        }),
    }
}

fn allow(reason: Reason) -> Decision {
    Decision { verdict: Verdict::Allow, reason }
}

fn deny(reason: Reason) -> Decision {
    Decision { verdict: Verdict::Deny, reason }
}
