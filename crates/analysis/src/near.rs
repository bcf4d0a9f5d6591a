//! Rules that miss a denied flow by one term, and the policy with that term changed.

use ipnet::IpNet;
use palisade_policy::flow::{Reason, Transport};
use palisade_policy::input::{
    IpBlock, LabelSelector, Labels, METADATA_NAME, NamespaceScope, Operator, Peer, Peers, Pod, Policy, Port, Ports,
    Requirement, Rule, UNKNOWN_LABEL,
};
use palisade_policy::reference::{ConsideredPolicy, ConsideredRule, PeerMatch, Side};

/// A rule that would allow the flow if one term were different.
#[derive(Clone, Copy, Debug)]
pub struct Miss<'c> {
    /// The direction of the flow that is denied.
    pub side: Side<'c>,
    /// The policy.
    pub policy: &'c Policy,
    /// The position of the rule; of a new rule, the number of rules there are.
    pub index: usize,
    /// The term.
    pub term: Term<'c>,
}

/// The one term that does not match. In order: what is likelier to be the mistake comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term<'c> {
    /// A peer matches but for this `except`: its position in the rule, and the block.
    Except(usize, IpNet),
    /// A peer matches, and no port does.
    Ports,
    /// A port matches, and this peer but for a requirement of its `podSelector`.
    PodLabel(usize, &'c Requirement),
    /// The same for its `namespaceSelector`.
    NamespaceLabel(usize, &'c Requirement),
    /// The same, but it means the policy's own namespace, and the pod is in another one.
    OtherNamespace(usize),
    /// A rule of the policy matches, and its own `podSelector` does not select the pod because of this requirement.
    Subject(&'c Requirement),
    /// A port matches, and the IP is in no block of the rule.
    Address,
    /// No rule comes near: the policy isolates the pod, and another rule would have to be added.
    NewRule,
}

/// The rules that miss by one term, the likeliest mistake first; nothing if the direction is not denied for want of a
/// rule. If none comes so near, a new rule of the first policy that isolates the pod.
pub fn misses<'c>(side: Side<'c>) -> Vec<Miss<'c>> {
    if !matches!(side.decision().reason, Reason::NoRule { .. }) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for policy in side.policies().filter(|policy| !policy.policy.is_over_budget()) {
        if policy.isolates() {
            let of_rule = |rule: ConsideredRule<'c>| {
                let miss = move |term| Miss { side, policy: policy.policy, index: rule.index, term };
                term(&side, &rule).map(miss)
            };
            found.extend(policy.rules().filter_map(of_rule));
        } else {
            found.extend(unselected(side, policy));
        }
    }
    found.sort_by(|one, other| {
        (one.term, &one.policy.key, one.index).cmp(&(other.term, &other.policy.key, other.index))
    });
    if found.is_empty() {
        let isolating = side.policies().find(|policy| policy.isolates() && !policy.policy.is_over_budget());
        found.extend(isolating.and_then(|policy| {
            let miss = Miss { side, policy: policy.policy, index: policy.rules().count(), term: Term::NewRule };
            miss.new_peer(&policy.policy.key.namespace).is_some().then_some(miss)
        }));
    }
    found
}

/// The term by which a rule misses, if it is one.
fn term<'c>(side: &Side<'c>, rule: &ConsideredRule<'c>) -> Option<Term<'c>> {
    if rule.is_peer_match() {
        return Some(Term::Ports);
    }
    if !rule.is_port_match() {
        return None;
    }
    let peers = rule.peers().enumerate();
    let nearest = peers.filter_map(|(position, (peer, found))| of_peer(side, position, peer, found)).min();
    let is_of_blocks = rule.peers().any(|(_, found)| found == PeerMatch::OutsideBlock);
    nearest.or_else(|| (is_of_blocks && side.peer.address.is_some()).then_some(Term::Address))
}

fn of_peer<'c>(side: &Side<'c>, position: usize, peer: &'c Peer, found: PeerMatch<'c>) -> Option<Term<'c>> {
    let pod = side.peer.the_pod();
    match (peer, found) {
        (Peer::IpBlock(block), PeerMatch::Excepted(except)) => {
            let address = side.peer.address?;
            let excepts = block.except.iter().filter(|except| except.contains(&address)).count();
            (excepts == 1).then_some(Term::Except(position, except))
        }
        (Peer::Pods { pods, .. }, PeerMatch::Pod(_)) => Some(Term::PodLabel(position, the_unmet(pods, &pod?.labels)?)),
        (Peer::Pods { namespaces: NamespaceScope::Matching(selector), pods }, PeerMatch::Namespace(_)) => {
            let unmet = the_unmet(selector, &side.namespace_of(pod?)?.labels)?;
            is_selected(pods, pod?).then_some(Term::NamespaceLabel(position, unmet))
        }
        (Peer::Pods { pods, .. }, PeerMatch::OtherNamespace) => {
            (is_selected(pods, pod?) && of_namespace(side, pod?).is_some()).then_some(Term::OtherNamespace(position))
        }
        _ => None,
    }
}

/// The policy's own selector, if it misses the pod by one requirement and one of the policy's rules matches.
fn unselected<'c>(side: Side<'c>, policy: ConsideredPolicy<'c>) -> Option<Miss<'c>> {
    if !policy.policy.isolates.in_direction(side.direction) {
        return None;
    }
    let index = policy.rules().find(ConsideredRule::is_match)?.index;
    let pod = side.subject.the_pod()?;
    let unmet = the_unmet(&policy.policy.pod_selector, &pod.labels)?;
    Some(Miss { side, policy: policy.policy, index, term: Term::Subject(unmet) })
}

/// The only requirement that labels do not meet.
fn the_unmet<'c>(selector: &'c LabelSelector, labels: &Labels) -> Option<&'c Requirement> {
    let mut unmet = selector.requirements.iter().filter(|requirement| !is_met(requirement, labels));
    unmet.next().filter(|_| unmet.next().is_none())
}

fn is_selected(selector: &LabelSelector, pod: &Pod) -> bool {
    selector.requirements.iter().all(|requirement| is_met(requirement, &pod.labels))
}

/// Whether labels meet a requirement. One on a value that only a controller knows counts as not met: changed, it is.
fn is_met(requirement: &Requirement, labels: &Labels) -> bool {
    let is_unknown = labels.get(&requirement.key).is_some_and(|value| value == UNKNOWN_LABEL);
    let is_about_value = matches!(requirement.operator, Operator::In(_) | Operator::NotIn(_));
    requirement.is_met_by(labels) && !(is_unknown && is_about_value)
}

impl Miss<'_> {
    /// The policy with this term changed, and nothing else, so that the flow passes in this direction.
    pub fn fixed(&self) -> Policy {
        let Self { side, policy, index, term } = *self;
        let mut fixed = policy.clone();
        match term {
            Term::Subject(requirement) => {
                let labels = side.subject.the_pod().map(|pod| pod.labels.clone()).unwrap_or_default();
                relax(&mut fixed.pod_selector, requirement, &labels);
            }
            Term::NewRule => {
                let ports = self.port().map_or(Ports::Any, |port| Ports::Of(vec![port]));
                // There is one, or this would not be a miss.
                let peers = Peers::Of(self.new_peer(&policy.key.namespace).into_iter().collect());
                fixed.rules_mut(side.direction).push(Rule { peers, ports });
            }
            _ => {
                if let Some(rule) = fixed.rules_mut(side.direction).get_mut(index) {
                    self.fix(rule);
                }
            }
        }
        fixed
    }

    fn fix(&self, rule: &mut Rule) {
        let pod = self.side.peer.the_pod();
        match self.term {
            Term::Ports => match (self.port(), &mut rule.ports) {
                (Some(port), Ports::Of(list)) => list.push(port),
                // Only a rule without ports allows a protocol without ports.
                (_, ports) => *ports = Ports::Any,
            },
            Term::Except(position, except) => {
                if let Some(Peer::IpBlock(block)) = peer_at(rule, position) {
                    block.except.retain(|other| *other != except);
                }
            }
            Term::PodLabel(position, requirement) => {
                if let (Some(Peer::Pods { pods, .. }), Some(pod)) = (peer_at(rule, position), pod) {
                    relax(pods, requirement, &pod.labels);
                }
            }
            Term::NamespaceLabel(position, requirement) => {
                if let Some(Peer::Pods { namespaces: NamespaceScope::Matching(selector), .. }) = peer_at(rule, position)
                {
                    let namespace = pod.and_then(|pod| self.side.namespace_of(pod));
                    relax(selector, requirement, &namespace.map(|one| one.labels.clone()).unwrap_or_default());
                }
            }
            Term::OtherNamespace(position) => {
                let selector = pod.and_then(|pod| of_namespace(&self.side, pod));
                if let (Some(Peer::Pods { namespaces, .. }), Some(selector)) = (peer_at(rule, position), selector) {
                    *namespaces = NamespaceScope::Matching(selector);
                }
            }
            Term::Address => {
                if let (Peers::Of(list), Some(block)) = (&mut rule.peers, self.block()) {
                    list.push(block);
                }
            }
            Term::Subject(_) | Term::NewRule => {}
        }
    }

    /// The flow's port as a term; none for a protocol without ports.
    pub fn port(&self) -> Option<Port> {
        match self.side.transport {
            Transport::Port(protocol, number) => Some(Port::Range { protocol, first: number, last: number }),
            Transport::Portless => None,
        }
    }

    /// The other end as a peer of a policy in this namespace: a pod by its labels, anything else by its IP.
    pub fn new_peer(&self, own: &str) -> Option<Peer> {
        let pod = self.side.peer.the_pod().filter(|pod| pod.labels.values().all(|value| value != UNKNOWN_LABEL));
        let scope = pod.and_then(|pod| {
            if *pod.key.namespace == *own {
                return Some(NamespaceScope::Own);
            }
            of_namespace(&self.side, pod).map(NamespaceScope::Matching)
        });
        match (pod, scope) {
            (Some(pod), Some(namespaces)) => {
                let pods = LabelSelector::labels(pod.labels.iter());
                Some(Peer::Pods { namespaces, pods })
            }
            _ => self.block(),
        }
    }

    fn block(&self) -> Option<Peer> {
        let cidr = IpNet::from(self.side.peer.address?);
        Some(Peer::IpBlock(IpBlock { cidr, except: Vec::new() }))
    }
}

/// The selector of a pod's namespace by name. A namespace whose object was not seen matches no selector.
fn of_namespace(side: &Side<'_>, pod: &Pod) -> Option<LabelSelector> {
    let name = side.namespace_of(pod)?.labels.get(METADATA_NAME)?;
    Some(LabelSelector::labels([(METADATA_NAME, name)]))
}

fn peer_at(rule: &mut Rule, position: usize) -> Option<&mut Peer> {
    match &mut rule.peers {
        Peers::Of(list) => list.get_mut(position),
        Peers::Any => None,
    }
}

/// Changes a requirement so that these labels meet it: another value, or none of this requirement at all.
fn relax(selector: &mut LabelSelector, requirement: &Requirement, labels: &Labels) {
    selector.requirements.remove(requirement);
    let value = labels.get(&requirement.key).filter(|value| *value != UNKNOWN_LABEL);
    let operator = match (&requirement.operator, value) {
        (Operator::In(values), Some(value)) => Operator::In(values.iter().chain([value]).cloned().collect()),
        (Operator::NotIn(values), Some(value)) if values.len() > 1 => {
            Operator::NotIn(values.iter().filter(|other| *other != value).cloned().collect())
        }
        _ => return,
    };
    selector.requirements.insert(Requirement { key: requirement.key.clone(), operator });
}
