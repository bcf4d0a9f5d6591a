//! Who may reach whom, on which ports: between workloads, and between a workload and the world.
//!
//! Every answer is the reference evaluator's, for all ports at once: the ports of the rules whose peer matches.

mod ports;
mod workload;
mod world;

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport, Verdict};
use palisade_policy::input::{Direction, Family, NamespacedName, Pod, Policy, Port, Ports, State};
use palisade_policy::reference::{ConsideredPolicy, ConsideredRule, End, Reference, Side};

pub use ports::PortSet;
pub use workload::{Workload, name, titles, workloads};
pub use world::{World, join, spelled};

/// What policies allow between ends.
#[derive(Debug)]
pub struct Reach<'a> {
    state: &'a State,
    reference: Reference<'a>,
}

/// Allowed ports by family: IPv4, IPv6. Where an end has no address of a family, nothing; where neither end's address is
/// known, both are the same.
pub type ByFamily = [PortSet; 2];

impl<'a> Reach<'a> {
    /// What these objects allow.
    pub fn new(state: &'a State, facts: &'a NodeFacts) -> Self {
        Self { state, reference: Reference::new(state, facts) }
    }

    /// The objects.
    pub fn state(&self) -> &'a State {
        self.state
    }

    /// The evaluator.
    pub(crate) fn reference(&self) -> &Reference<'a> {
        &self.reference
    }

    /// What a pod may send to another.
    pub fn between(&self, from: &NamespacedName, to: &NamespacedName) -> ByFamily {
        Family::ALL.map(|family| self.allowed(&Endpoint::Pod(from.clone()), &Endpoint::Pod(to.clone()), family))
    }

    /// What may pass between these ends in a family; nothing if there is no such flow.
    pub fn allowed(&self, from: &Endpoint, to: &Endpoint, family: Family) -> PortSet {
        let flow = Flow { from: from.clone(), to: to.clone(), transport: Transport::Portless, family: Some(family) };
        let Ok(considered) = self.reference.consider(&flow) else { return PortSet::nothing() };
        let [egress, ingress] = Direction::ALL.map(|direction| ports_of(&considered.side(direction)));
        egress.and(&ingress)
    }

    /// The policies that isolate a pod in a direction.
    pub fn isolating(&self, pod: &Pod, direction: Direction) -> Vec<&'a Policy> {
        let policies = self.state.policies_of(&pod.key.namespace).filter(|_| pod.is_live());
        policies.filter(|policy| policy.isolates.in_direction(direction) && policy.selects(pod)).collect()
    }
}

/// What comes of both for each family.
pub fn by_family<T>([one4, one6]: &ByFamily, [two4, two6]: &ByFamily, of: impl Fn(&PortSet, &PortSet) -> T) -> [T; 2] {
    [of(one4, two4), of(one6, two6)]
}

/// The ports that a direction allows, if the flow's own port does not matter.
fn ports_of(side: &Side<'_>) -> PortSet {
    if let Some(settled) = side.settled() {
        return if settled.verdict == Verdict::Allow { PortSet::everything() } else { PortSet::nothing() };
    }
    let isolating = side.policies().filter(ConsideredPolicy::isolates);
    let rules = isolating.flat_map(|policy| policy.rules().collect::<Vec<_>>());
    let matching = rules.filter(ConsideredRule::is_peer_match);
    matching.fold(PortSet::nothing(), |all, rule| all.or(&of_rule(&rule.rule.ports, side.server)))
}

/// The ports of a rule at a server.
pub(crate) fn of_rule(ports: &Ports, server: &End<'_>) -> PortSet {
    let Ports::Of(list) = ports else { return PortSet::everything() };
    let mut set = PortSet::nothing();
    for port in list {
        match port {
            Port::All(protocol) => set.add(*protocol, 1, u16::MAX),
            Port::Range { protocol, first, last } => set.add(*protocol, *first, *last),
            Port::Named { protocol, name } => {
                let numbers = server.the_pod().into_iter().flat_map(|pod| pod.ports_named(*protocol, name));
                numbers.for_each(|number| set.add(*protocol, number, number));
            }
            Port::Unmatchable => {}
        }
    }
    set
}
