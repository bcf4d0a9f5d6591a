//! The order in which the kernel sees a patch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{ChainChange, Operation, Patch, SetChange, Transaction};
use crate::model::{Chain, Element, Expression, Key, Rule, Test, Verdict};
use crate::name::Name;

/// Elements by the set they are in.
type Elements<'a> = BTreeMap<&'a Name, &'a BTreeMap<Key, Element>>;

pub(super) fn plan(patch: &Patch) -> Transaction {
    let mut transaction = Transaction { stage: stage(patch), sweep: sweep(patch), ..Transaction::default() };
    let (removed, added) = element_changes(patch);
    let (widened, added) =
        if moves_one_address(patch, &removed, &added) { (added, Elements::new()) } else { (Elements::new(), added) };
    transaction.widen =
        widened.into_iter().map(|(name, new)| Operation::AddElements(name.clone(), new.clone())).collect();
    transaction
        .switch
        .extend(removed.iter().map(|(name, gone)| Operation::DeleteElements((*name).clone(), (*gone).clone())));
    transaction.switch.extend(added.iter().map(|(name, new)| Operation::AddElements((*name).clone(), (*new).clone())));
    transaction.switch.extend(rule_changes(patch));
    transaction
}

/// New objects, each before what refers to it. No packet can reach them yet: base chains come in with the switch.
fn stage(patch: &Patch) -> Vec<Operation> {
    let mut stage: Vec<_> = patch.counters.iter().cloned().map(Operation::AddCounter).collect();
    let created = || {
        patch.sets.iter().filter_map(|(name, change)| match change {
            SetChange::Create(set) => Some((name, set)),
            _ => None,
        })
    };
    for (name, set) in created() {
        let mut empty = set.clone();
        empty.elements = BTreeMap::new();
        stage.push(Operation::AddSet(name.clone(), empty));
    }
    let chains: Vec<_> = new_chains(patch).filter(|(_, chain)| chain.hook.is_none()).collect();
    stage.extend(chains.iter().map(|(name, chain)| add_chain(name, chain)));
    stage.extend(chains.iter().filter_map(|(name, chain)| append(name, &chain.rules)));
    // Elements last: those of verdict maps point at chains.
    for (name, set) in created().filter(|(_, set)| !set.elements.is_empty()) {
        stage.push(Operation::AddElements(name.clone(), set.elements.clone()));
    }
    stage
}

/// What nothing refers to any more: first the contents, which may refer to each other, then the objects.
fn sweep(patch: &Patch) -> Vec<Operation> {
    let gone: Vec<_> = patch.chains.iter().filter(|(_, change)| matches!(change, ChainChange::Delete)).collect();
    let mut sweep: Vec<_> = gone.iter().map(|(name, _)| Operation::FlushChain((*name).clone())).collect();
    let sets = patch.sets.iter().filter(|(_, change)| matches!(change, SetChange::Delete));
    sweep.extend(sets.map(|(name, _)| Operation::DeleteSet(name.clone())));
    sweep.extend(gone.iter().map(|(name, _)| Operation::DeleteChain((*name).clone())));
    sweep
}

/// New base chains with their rules, and new rules of chains that stay. Rules are switched with their generation, so the
/// order within the batch does not show.
fn rule_changes(patch: &Patch) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (name, change) in &patch.chains {
        match change {
            ChainChange::Create(chain) if chain.hook.is_some() => {
                operations.push(add_chain(name, chain));
                operations.extend(append(name, &chain.rules));
            }
            ChainChange::Rules(rules) => {
                operations.push(Operation::FlushChain(name.clone()));
                operations.extend(append(name, rules));
            }
            ChainChange::Create(_) | ChainChange::Delete => {}
        }
    }
    operations
}

fn new_chains(patch: &Patch) -> impl Iterator<Item = (&Name, &Chain)> {
    patch.chains.iter().filter_map(|(name, change)| match change {
        ChainChange::Create(chain) => Some((name, chain)),
        _ => None,
    })
}

fn add_chain(name: &Name, chain: &Chain) -> Operation {
    Operation::AddChain(name.clone(), Chain { rules: Vec::new(), ..chain.clone() })
}

fn append(name: &Name, rules: &[Rule]) -> Option<Operation> {
    (!rules.is_empty()).then(|| Operation::AppendRules(name.clone(), rules.to_vec()))
}

/// Elements that went and that came, of the sets that stay.
fn element_changes(patch: &Patch) -> (Elements<'_>, Elements<'_>) {
    let (mut removed, mut added) = (Elements::new(), Elements::new());
    for (name, change) in &patch.sets {
        if let SetChange::Elements { remove, add } = change {
            if !remove.is_empty() {
                removed.insert(name, remove);
            }
            if !add.is_empty() {
                added.insert(name, add);
            }
        }
    }
    (removed, added)
}

/// Whether the patch only moves one address (of each family) from some plain sets to others.
///
/// A packet that has missed the address in its new set and, after the commit, misses it in its old one would be lost
/// although both states allow it; so the additions go first. That is right only for a single address under rules and
/// verdicts that stay: its flows are then allowed by the old sets or by the new ones. With two addresses, a flow between
/// them could pass its egress by the old state and its ingress by the new, which neither allows.
fn moves_one_address(patch: &Patch, removed: &Elements<'_>, added: &Elements<'_>) -> bool {
    if removed.is_empty() || added.is_empty() {
        return false;
    }
    let in_place = patch.chains.values().all(|change| matches!(change, ChainChange::Delete));
    let elements = || removed.values().chain(added.values()).flat_map(|elements| elements.iter());
    let plain = elements().all(|(_, element)| element.verdict.is_none());
    let replaced = removed
        .iter()
        .any(|(name, gone)| added.get(name).is_some_and(|new| new.keys().any(|key| gone.contains_key(key))));
    let addresses: BTreeSet<IpAddr> = elements().filter_map(|(key, _)| key.address()).collect();
    let one_each = [true, false].into_iter().all(|v4| addresses.iter().filter(|ip| ip.is_ipv4() == v4).count() <= 1);
    in_place && plain && !replaced && one_each
}

impl Key {
    /// The address that it is about, if it is about one.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) | Self::AddressPair(address, _) | Self::AddressPort(address, _) => Some(*address),
            Self::AddressRange(..) | Self::PortRange(..) | Self::InterfaceName(_) => None,
        }
    }
}

impl Expression {
    /// The set or map that it looks something up in.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::Match(_, Test::In(name)) | Self::Lookup(_, name) | Self::Vmap(_, name) => Some(name),
            _ => None,
        }
    }

    /// The chain that it leads to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Verdict(verdict) => verdict.chain(),
            _ => None,
        }
    }
}

impl Verdict {
    /// The chain that it leads to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Jump(name) | Self::Goto(name) => Some(name),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}
