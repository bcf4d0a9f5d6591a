//! Rules by their peers, so that a rule is compared only with those that may allow as much.

use std::collections::BTreeMap;

use ipnet::IpNet;
use palisade_policy::input::{
    Direction, LabelSelector, Labels, NamespaceScope, NamespacedName, Operator, Peer, Peers, Policy, Requirement, Rule,
};

/// A rule of a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleOf<'a> {
    /// The policy.
    pub(crate) policy: &'a Policy,
    /// The position of the rule.
    pub(crate) index: usize,
    /// The rule.
    pub(crate) rule: &'a Rule,
}

impl<'a> RuleOf<'a> {
    /// The sort key of rules.
    pub(crate) fn place(&self) -> (&'a NamespacedName, usize) {
        (&self.policy.key, self.index)
    }
}

/// The rules of a direction of a namespace's policies, each under one condition of each of its peers. A rule that allows
/// all that another one does has a peer whose condition the other's first peer implies.
#[derive(Debug, Default)]
pub(crate) struct Rules<'a> {
    /// Those with a peer without conditions on labels, or without peers.
    open: Vec<RuleOf<'a>>,
    by_block: BTreeMap<IpNet, Vec<RuleOf<'a>>>,
    by_pods: ByRequirement<'a>,
    by_namespaces: ByRequirement<'a>,
}

impl<'a> Rules<'a> {
    /// The rules of a policy in a direction.
    pub(crate) fn add(&mut self, policy: &'a Policy, direction: Direction) {
        for (index, rule) in policy.rules(direction).iter().enumerate() {
            let rule = RuleOf { policy, index, rule };
            match &rule.rule.peers {
                Peers::Any => self.open.push(rule),
                Peers::Of(list) => list.iter().for_each(|peer| self.add_peer(rule, peer)),
            }
        }
    }

    fn add_peer(&mut self, rule: RuleOf<'a>, peer: &'a Peer) {
        match peer {
            Peer::IpBlock(block) => self.by_block.entry(block.cidr).or_default().push(rule),
            Peer::Unmatchable => {}
            Peer::Pods { namespaces, pods } => match (pods.requirements.first(), namespaces) {
                (Some(requirement), _) => self.by_pods.add(requirement, rule),
                (None, NamespaceScope::Matching(namespaces)) => match namespaces.requirements.first() {
                    Some(requirement) => self.by_namespaces.add(requirement, rule),
                    None => self.open.push(rule),
                },
                (None, NamespaceScope::Own) => self.open.push(rule),
            },
        }
    }

    /// The rules that may allow everything that a rule allows; `own` are the labels of their namespace.
    pub(crate) fn candidates(&self, rule: &Rule, own: Option<&Labels>) -> Vec<RuleOf<'a>> {
        let mut found = self.open.clone();
        let Peers::Of(list) = &rule.peers else { return found };
        match list.first() {
            Some(Peer::IpBlock(block)) => {
                let mut net = Some(block.cidr);
                while let Some(cidr) = net {
                    found.extend(self.by_block.get(&cidr).into_iter().flatten());
                    net = cidr.supernet();
                }
            }
            Some(Peer::Pods { namespaces, pods }) => {
                self.by_pods.implied(pods, &mut found);
                match (namespaces, own) {
                    (NamespaceScope::Matching(namespaces), _) => self.by_namespaces.implied(namespaces, &mut found),
                    (NamespaceScope::Own, Some(own)) => {
                        self.by_namespaces.implied(&LabelSelector::labels(own.clone()), &mut found);
                        found.extend(&self.by_namespaces.others);
                    }
                    (NamespaceScope::Own, None) => {}
                }
            }
            // It allows nothing, so every rule allows as much; another check reports unenforceable terms.
            Some(Peer::Unmatchable) | None => {}
        }
        found
    }
}

/// Rules by a requirement of a selector.
#[derive(Debug, Default)]
struct ByRequirement<'a> {
    /// By a label and one of the values that it may have.
    by_value: BTreeMap<&'a str, BTreeMap<&'a str, Vec<RuleOf<'a>>>>,
    /// Under other requirements, by label.
    by_key: BTreeMap<&'a str, Vec<RuleOf<'a>>>,
    /// The same, in one list.
    others: Vec<RuleOf<'a>>,
}

impl<'a> ByRequirement<'a> {
    fn add(&mut self, requirement: &'a Requirement, rule: RuleOf<'a>) {
        if let Operator::In(values) = &requirement.operator {
            let by_value = self.by_value.entry(&requirement.key).or_default();
            values.iter().for_each(|value| by_value.entry(value).or_default().push(rule));
        } else {
            self.by_key.entry(&requirement.key).or_default().push(rule);
            self.others.push(rule);
        }
    }

    /// The rules under requirements that a selector may imply.
    fn implied(&self, selector: &LabelSelector, found: &mut Vec<RuleOf<'a>>) {
        for requirement in &selector.requirements {
            let key = requirement.key.as_str();
            found.extend(self.by_key.get(key).into_iter().flatten());
            if let Operator::In(values) = &requirement.operator
                && let Some(value) = values.first()
            {
                let there = self.by_value.get(key).and_then(|by_value| by_value.get(value.as_str()));
                found.extend(there.into_iter().flatten());
            }
        }
    }
}
