//! Asks the reference evaluator what every rule allows between every two workloads.

use std::collections::{BTreeMap, BTreeSet};

use palisade_policy::flow::{Endpoint, Flow, Transport};
use palisade_policy::input::{Direction, Family, NamespacedName, Peer, Peers};
use palisade_policy::reference::{Considered, ConsideredPolicy, ConsideredRule, Side as OfFlow};

use super::{Grant, Member, Side, with_an_address};
use crate::reach::{PortSet, Reach, of_rule};

/// The names of what the tables refer to by number.
pub(super) struct Table<'t> {
    pub(super) reach: &'t Reach<'t>,
    pub(super) rules: &'t BTreeMap<(&'t NamespacedName, Direction, usize), usize>,
    pub(super) policies: &'t BTreeMap<&'t NamespacedName, usize>,
}

/// The workloads with which a rule allows some ports: over IPv4, over IPv6.
type Found = BTreeMap<(usize, PortSet), [BTreeSet<usize>; 2]>;

impl Table<'_> {
    /// Egress and ingress of each workload, which is given by its pods.
    pub(super) fn sides(&self, workloads: &[Vec<Member>]) -> Vec<[Side; 2]> {
        let isolated: Vec<_> = workloads.iter().map(|pods| self.isolated(pods)).collect();
        let mut found: Vec<[Found; 2]> = workloads.iter().map(|_| <[Found; 2]>::default()).collect();
        for (number, (clients, [egress, _])) in workloads.iter().zip(&isolated).enumerate() {
            for (other, (servers, [_, ingress])) in workloads.iter().zip(&isolated).enumerate() {
                // What nobody isolates has no rules.
                if (egress.is_empty() && ingress.is_empty()) || clients.is_empty() {
                    continue;
                }
                let Some((from, to)) = pair(clients, servers) else { continue };
                for (flow, families) in flows(from, to) {
                    let Ok(considered) = self.reach.reference().consider(&flow) else { continue };
                    for (place, peer, direction) in
                        [(number, other, Direction::Egress), (other, number, Direction::Ingress)]
                    {
                        if let Some(found) = found.get_mut(place) {
                            self.note(of(found, direction), &considered, direction, peer, families);
                        }
                    }
                }
            }
        }
        let sides = workloads.iter().zip(isolated).zip(found);
        sides
            .map(|((pods, [egress, ingress]), [to, from])| {
                let [out, into] = Direction::ALL.map(|direction| self.addresses(pods, direction));
                [
                    Side { isolated_by: egress, grants: grants(to), addresses: out },
                    Side { isolated_by: ingress, grants: grants(from), addresses: into },
                ]
            })
            .collect()
    }

    /// The policies that isolate a workload.
    fn isolated(&self, pods: &[Member]) -> [Vec<usize>; 2] {
        let pod = pods.first().and_then(|pod| self.reach.state().pod(&pod.key));
        Direction::ALL.map(|direction| {
            let policies = pod.map(|pod| self.reach.isolating(pod, direction)).unwrap_or_default();
            policies.iter().filter_map(|policy| self.policies.get(&policy.key).copied()).collect()
        })
    }

    /// Notes what each rule of one end of a flow allows with the other.
    fn note(
        &self,
        found: &mut Found,
        considered: &Considered<'_>,
        direction: Direction,
        peer: usize,
        families: [bool; 2],
    ) {
        let side = considered.side(direction);
        if side.settled().is_some() {
            return;
        }
        for rule in rules(&side).filter(ConsideredRule::is_peer_match) {
            let Some(number) = self.rules.get(&(&rule.policy.key, direction, rule.index)) else { continue };
            let ports = of_rule(&rule.rule.ports, side.server);
            if ports.is_empty() {
                continue;
            }
            let peers = found.entry((*number, ports)).or_default();
            for (peers, is_of) in peers.iter_mut().zip(families) {
                if is_of {
                    peers.insert(peer);
                }
            }
        }
    }

    /// The rules of a workload that may apply to addresses.
    fn addresses(&self, pods: &[Member], direction: Direction) -> Vec<(usize, PortSet)> {
        let Some(pod) = pods.first() else { return Vec::new() };
        let family = pod.addresses.first().map_or(Family::V4, |address| Family::of(*address));
        let mut flow = with_an_address(Endpoint::Pod(pod.key.clone()), family);
        if direction == Direction::Ingress {
            std::mem::swap(&mut flow.from, &mut flow.to);
        }
        let Ok(considered) = self.reach.reference().consider(&flow) else { return Vec::new() };
        let side = considered.side(direction);
        if side.settled().is_some() {
            return Vec::new();
        }
        let applying = rules(&side).filter(|rule| match &rule.rule.peers {
            Peers::Any => true,
            Peers::Of(list) => list.iter().any(|peer| matches!(peer, Peer::IpBlock(_))),
        });
        let ports = applying.filter_map(|rule| {
            let number = self.rules.get(&(&rule.policy.key, direction, rule.index))?;
            Some((*number, of_rule(&rule.rule.ports, side.server)))
        });
        ports.filter(|(_, ports)| !ports.is_empty()).collect()
    }
}

fn of<T>([egress, ingress]: &mut [T; 2], direction: Direction) -> &mut T {
    match direction {
        Direction::Egress => egress,
        Direction::Ingress => ingress,
    }
}

/// The rules that decide about a flow.
fn rules<'c>(side: &OfFlow<'c>) -> impl Iterator<Item = ConsideredRule<'c>> + use<'c> {
    side.policies().filter(ConsideredPolicy::isolates).flat_map(|policy| policy.rules().collect::<Vec<_>>())
}

/// A pod of each workload, two different ones of the same; none if both are the same single pod.
fn pair<'m>(clients: &'m [Member], servers: &'m [Member]) -> Option<(&'m Member, &'m Member)> {
    let from = clients.first()?;
    Some((from, servers.iter().find(|to| to.key != from.key)?))
}

/// The flows between two pods that can have different verdicts, with the families for which each stands.
fn flows(from: &Member, to: &Member) -> Vec<(Flow, [bool; 2])> {
    let has = |pod: &Member, family| {
        pod.addresses.is_empty() || pod.addresses.iter().any(|address| Family::of(*address) == family)
    };
    let flow = |family| Flow {
        from: Endpoint::Pod(from.key.clone()),
        to: Endpoint::Pod(to.key.clone()),
        transport: Transport::Portless,
        family: Some(family),
    };
    let is_unknown = from.addresses.is_empty() && to.addresses.is_empty();
    match Family::ALL.map(|family| has(from, family) && has(to, family)) {
        [true, true] if !is_unknown => {
            vec![(flow(Family::V4), [true, false]), (flow(Family::V6), [false, true])]
        }
        // What there cannot be is not told from what there is.
        [true, _] => vec![(flow(Family::V4), [true, true])],
        [false, true] => vec![(flow(Family::V6), [true, true])],
        [false, false] => Vec::new(),
    }
}

/// What was found, with the workloads of both families as one.
fn grants(found: Found) -> Vec<Grant> {
    let mut grants = Vec::new();
    for ((rule, ports), [four, six]) in found {
        let both: BTreeSet<usize> = four.intersection(&six).copied().collect();
        let only = |one: &BTreeSet<usize>| one.difference(&both).copied().collect();
        let (four, six) = (only(&four), only(&six));
        for (family, peers) in [(None, both), (Some(Family::V4), four), (Some(Family::V6), six)] {
            if !peers.is_empty() {
                grants.push(Grant { rule, family, ports: ports.clone(), peers });
            }
        }
    }
    grants
}
