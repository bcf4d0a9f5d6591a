//! Where the node of a pod has what an explanation names.

use std::net::IpAddr;

use palisade_policy::flow::NodeFacts;
use palisade_policy::index::Index;
use palisade_policy::input::{Direction, Family, Pod, State};
use palisade_ruleset::model::{Key, Ruleset, Verdict};
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{Options, render, verdict_map};
use palisade_ruleset::text;
use palisade_ruleset::walk::{Packet, Step, walk_chain};

/// The ruleset of a pod's node.
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    ruleset: Ruleset,
}

impl<'a> Node<'a> {
    /// None if the pod is not on a node yet.
    pub(super) fn of(pod: &'a Pod, state: &State, facts: &NodeFacts) -> Option<Self> {
        let name = pod.node.as_deref()?;
        let allow_egress_to_own_node = facts.allow_egress_to_own_node;
        let options = Options { allow_egress_to_own_node, ..Options::default() };
        Some(Self { name, ruleset: render(Index::build(name, state).compiled(), &options) })
    }

    /// The chain that judges flows of an IP in a direction; none if no policy isolates it.
    pub(super) fn chain(&self, direction: Direction, address: IpAddr) -> Option<&Name> {
        let map = self.ruleset.sets.get(&verdict_map(direction, Family::of(address)))?;
        match &map.elements.get(&Key::Address(address))?.verdict {
            Some(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
            _ => None,
        }
    }

    /// The chain and the rule, as `nft list` has it, that decide on a flow which enters this chain: other chains may
    /// follow, one for each port. The rule is one that allows the flow, or drops it.
    pub(super) fn decides(&self, chain: &Name, packet: &Packet) -> Option<(Name, String)> {
        let walked = walk_chain(&self.ruleset, chain, packet).ok()?;
        let decides = |step: &Step| match &step.verdict {
            Some(Verdict::Goto(next)) => drops(next),
            Some(Verdict::Return | Verdict::Accept | Verdict::Drop) => true,
            _ => false,
        };
        let step = walked.steps.into_iter().find(decides)?;
        let rule = self.ruleset.chains.get(&step.chain)?.rules.get(step.rule)?;
        Some((step.chain, text::rule(rule)))
    }

    /// The first rule of a chain whose comment names this rule of a policy, as `nft list` has it.
    pub(super) fn rule(&self, chain: &Name, reference: &str) -> Option<String> {
        let chain = self.ruleset.chains.get(chain)?;
        let is_of = |comment: &str| comment.split([',', ';']).any(|part| part.trim() == reference);
        let rule = chain.rules.iter().find(|rule| rule.comment.as_deref().is_some_and(is_of))?;
        Some(text::rule(rule))
    }
}

/// Whether a chain only counts and drops.
fn drops(chain: &Name) -> bool {
    chain.as_str().starts_with("drop/")
}
