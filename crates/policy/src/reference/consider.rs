//! The walk over every policy, rule and term that may apply to a flow.
//!
//! The walk is lazy and copies nothing: [`Considered::judgement`] stops at the first rule that allows, and a command
//! that explains a verdict walks to the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::membership::{Selection, selection};
use super::terms::{self, PeerMatch, PortMatch};
use super::{End, Ends, Reference, allow, deny, is_same_end, isolates};
use crate::flow::{Decision, Flow, FlowError, Judgement, Reason, Transport};
use crate::input::{Direction, Namespace, Peer, Peers, Pod, Policy, Port, Ports, Rule};

/// A flow, and the policies that may apply to it.
#[derive(Debug)]
pub struct Considered<'r> {
    reference: &'r Reference<'r>,
    /// The resolved ends.
    pub ends: Ends<'r>,
    transport: Transport,
}

/// One direction of a flow: the end whose policies judge it, and the other end.
#[derive(Clone, Copy, Debug)]
pub struct Side<'c> {
    pub(super) reference: &'c Reference<'c>,
    /// The direction.
    pub direction: Direction,
    /// The end whose policies judge the flow.
    pub subject: &'c End<'c>,
    /// The other end.
    pub peer: &'c End<'c>,
    /// The end whose port it is, in both directions.
    pub server: &'c End<'c>,
    /// The protocol and port of the flow.
    pub transport: Transport,
}

/// A policy in a namespace of the subject.
#[derive(Clone, Copy, Debug)]
pub struct ConsideredPolicy<'c> {
    side: Side<'c>,
    /// The policy.
    pub policy: &'c Policy,
}

/// A rule of a policy, in this direction.
#[derive(Clone, Copy, Debug)]
pub struct ConsideredRule<'c> {
    side: Side<'c>,
    /// The policy.
    pub policy: &'c Policy,
    /// The position in `spec.ingress` or `spec.egress`.
    pub index: usize,
    /// The rule.
    pub rule: &'c Rule,
}

impl<'a> Reference<'a> {
    /// Resolves a flow's ends and walks the policies that may apply to it.
    pub fn consider<'r>(&'r self, flow: &'r Flow) -> Result<Considered<'r>, FlowError>
    where
        'a: 'r,
    {
        Ok(Considered { ends: self.ends(flow)?, reference: self, transport: flow.transport })
    }
}

impl Considered<'_> {
    /// One direction.
    pub fn side(&self, direction: Direction) -> Side<'_> {
        let Ends { from, to, .. } = &self.ends;
        let (subject, peer) = match direction {
            Direction::Egress => (from, to),
            Direction::Ingress => (to, from),
        };
        Side { reference: self.reference, direction, subject, peer, server: to, transport: self.transport }
    }

    /// The verdict.
    pub fn judgement(&self) -> Judgement {
        let [egress, ingress] =
            [Direction::Egress, Direction::Ingress].map(|direction| self.side(direction).decision());
        Judgement { verdict: egress.verdict.and(ingress.verdict), egress, ingress }
    }
}

impl<'c> Side<'c> {
    /// The verdict of this direction.
    pub fn decision(&self) -> Decision {
        let isolating = match self.before_rules() {
            Ok(isolating) => isolating,
            Err(settled) => return settled,
        };
        // 1.1 clauses 2, 3 and 5: the union of the rules of all these policies; there is no order and no deny.
        for policy in &isolating {
            if let Some(rule) = policy.rules().find(ConsideredRule::is_match) {
                let policy = policy.policy.key.clone();
                return allow(Reason::Rule { policy, direction: self.direction, index: rule.index });
            }
        }
        deny(Reason::NoRule { policies: isolating.into_iter().map(|policy| policy.policy.key.clone()).collect() })
    }

    /// The verdict that does not depend on rules, if there is one.
    pub fn settled(&self) -> Option<Decision> {
        self.before_rules().err()
    }

    /// Every policy in the subject's namespaces, by name, whether or not it selects the subject.
    pub fn policies(&self) -> impl Iterator<Item = ConsideredPolicy<'c>> + use<'c> {
        let side = *self;
        let namespaces: BTreeSet<&Arc<str>> = side.subject.pods.iter().map(|pod| &pod.key.namespace).collect();
        let policies = namespaces.into_iter().flat_map(move |namespace| side.reference.state.policies_of(namespace));
        policies.map(move |policy| ConsideredPolicy { side, policy })
    }

    /// The object of a pod's namespace, if it was seen.
    pub fn namespace_of(&self, pod: &Pod) -> Option<&'c Namespace> {
        self.reference.state.namespaces.get(&pod.key.namespace)
    }

    /// The policies whose rules decide, or the verdict that does not depend on rules.
    fn before_rules(&self) -> Result<Vec<ConsideredPolicy<'c>>, Decision> {
        let Self { reference, direction, subject, peer, .. } = *self;
        let facts = reference.facts;
        // 1.5 "Start-up": isolated from the first instant, before its IP is known.
        let starting = reference.starting(direction, subject);
        if !starting.is_empty() {
            return Err(match direction {
                Direction::Ingress if reference.is_own_node(&starting, peer) => allow(Reason::OwnNode),
                Direction::Egress if facts.allow_egress_to_own_node && reference.is_own_node(&starting, peer) => {
                    allow(Reason::ToOwnNode)
                }
                _ => deny(Reason::Starting { pods: starting.iter().map(|pod| pod.key.clone()).collect() }),
            });
        }
        // 1.5, section 4: hostNetwork and finished pods, nodes and everything outside the cluster are not subjects.
        if subject.pods.is_empty() {
            return Err(allow(Reason::NotAPod));
        }
        // 1.6 "Self": a pod cannot block access to itself.
        if is_same_end(subject, peer) {
            return Err(allow(Reason::Itself));
        }
        // 1.1 clause 1: a pod is isolated if a policy of its namespace selects it and has the direction in policyTypes;
        // otherwise everything is allowed. Section 4: a duplicate IP is isolated if any of its pods is.
        let isolating: Vec<_> = self.policies().filter(ConsideredPolicy::isolates).collect();
        if isolating.is_empty() {
            return Err(allow(Reason::NotIsolated));
        }
        match direction {
            // 1.1 clause 2: ... plus any traffic from the pod's own node.
            Direction::Ingress if reference.is_own_node(&subject.pods, peer) => return Err(allow(Reason::OwnNode)),
            // 1.1 clause 3, 1.6, section 4: egress to the pod's own node is judged like any other unless the user
            // exempts it.
            Direction::Egress if facts.allow_egress_to_own_node && reference.is_own_node(&subject.pods, peer) => {
                return Err(allow(Reason::ToOwnNode));
            }
            Direction::Ingress | Direction::Egress => {}
        }
        // Section 4: no rule applies to an isolated duplicate IP.
        if subject.pods.len() > 1 {
            return Err(deny(Reason::DuplicateIp { pods: subject.pods.iter().map(|pod| pod.key.clone()).collect() }));
        }
        Ok(isolating)
    }
}

impl<'c> ConsideredPolicy<'c> {
    /// Whether it isolates the subject in the direction.
    pub fn isolates(&self) -> bool {
        isolates(self.policy, self.side.direction, &self.side.subject.pods)
    }

    /// The subject's pods in the policy's namespace, and how far `podSelector` matches each.
    pub fn selections(&self) -> impl Iterator<Item = (&'c Pod, Selection<'c>)> + use<'c> {
        let policy = self.policy;
        let pods = self.side.subject.pods.iter().filter(move |pod| pod.key.namespace == policy.key.namespace);
        pods.map(move |pod| (*pod, selection(&policy.pod_selector, &pod.labels)))
    }

    /// Its rules of the direction, in order; inert unless the policy isolates in that direction.
    pub fn rules(&self) -> impl Iterator<Item = ConsideredRule<'c>> + use<'c> {
        let Self { side, policy } = *self;
        let rules = policy.rules(side.direction).iter().enumerate();
        rules.map(move |(index, rule)| ConsideredRule { side, policy, index, rule })
    }
}

impl<'c> ConsideredRule<'c> {
    /// A rule allows what matches one of its peers and one of its ports (1.2).
    pub fn is_match(&self) -> bool {
        self.is_peer_match() && self.is_port_match()
    }

    /// Whether the other end matches.
    pub fn is_peer_match(&self) -> bool {
        match &self.rule.peers {
            // 1.2: from/to missing or empty: any peer, cluster-external and node addresses included.
            Peers::Any => true,
            // 1.2: list items are alternatives.
            Peers::Of(_) => self.peers().any(|(_, found)| found.is_match()),
        }
    }

    /// Whether the port matches.
    pub fn is_port_match(&self) -> bool {
        match &self.rule.ports {
            // 1.2: ports missing or empty: any port, any protocol.
            Ports::Any => true,
            Ports::Of(_) => self.ports().any(|(_, found)| found.is_match()),
        }
    }

    /// How far each listed peer matches; none if the rule allows any peer.
    pub fn peers(&self) -> impl Iterator<Item = (&'c Peer, PeerMatch<'c>)> + use<'c> {
        let Self { side, policy, .. } = *self;
        self.rule.peers.list().iter().map(move |peer| (peer, side.reference.peer(peer, &policy.key, side.peer)))
    }

    /// How far each listed port matches; none if the rule allows any port.
    pub fn ports(&self) -> impl Iterator<Item = (&'c Port, PortMatch)> + use<'c> {
        let side = self.side;
        self.rule.ports.list().iter().map(move |port| (port, terms::port(port, side.server, side.transport)))
    }
}
