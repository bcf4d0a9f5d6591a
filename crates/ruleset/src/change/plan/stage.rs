//! New objects, before any packet can reach them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Members, Scratch, Step, add_chain, append, new_chains};
use crate::change::{Batch, Operation, Patch, SetChange};
use crate::model::{Element, Expression, Key};
use crate::name::Name;

/// Rules and elements in one batch. The kernel takes them in one to three milliseconds, and commits of other programs
/// wait meanwhile.
const MOST: usize = 512;

/// The batches that stage new objects. No packet meets these, so it does not matter when each is committed.
pub(super) fn batches(patch: &Patch, scratch: &Scratch) -> Vec<Batch> {
    let operations = operations(patch, scratch);
    if operations.iter().map(weight).sum::<usize>() <= MOST {
        return vec![Step::Stage.batch(operations)];
    }
    let (mut bulk, first): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_bulk);
    // Rules last: meanwhile the kernel enlarges the hash tables of the sets in the background, and a dump of a set that
    // is being enlarged may miss elements.
    bulk.sort_by_key(|operation| matches!(operation, Operation::AppendRules(..)));
    let (mut batches, mut last, mut room) = (vec![first], Vec::new(), MOST);
    for operation in bulk.into_iter().flat_map(pieces) {
        let weight = weight(&operation);
        if weight > room && !last.is_empty() {
            batches.push(std::mem::take(&mut last));
            room = MOST;
        }
        room = room.saturating_sub(weight);
        last.push(operation);
    }
    batches.push(last);
    batches.into_iter().map(|operations| Step::Stage.batch(operations)).collect()
}

/// New objects, each before what refers to it. No packet can reach them yet: base chains are added by the switch. Also
/// lets new pods reach themselves, before they are isolated.
fn operations(patch: &Patch, scratch: &Scratch) -> Vec<Operation> {
    let mut stage: Vec<_> = patch.counters.iter().cloned().map(Operation::AddCounter).collect();
    stage.extend(scratch.stage_sets());
    let created = || {
        patch.sets.iter().filter_map(|(name, change)| match change {
            SetChange::Create(set) => Some((name, set)),
            _ => None,
        })
    };
    let uses = uses(patch);
    let mut sets: Vec<_> = created().collect();
    sets.sort_by_key(|(name, _)| Reverse(uses.get(name).copied().unwrap_or_default()));
    stage.extend(sets.iter().map(|(name, set)| Operation::AddSet((*name).clone(), set.without_elements())));
    let chains: Vec<_> = new_chains(patch).filter(|(_, chain)| chain.hook.is_none()).collect();
    stage.extend(chains.iter().map(|(name, chain)| add_chain(name, chain)));
    stage.extend(chains.iter().filter_map(|(name, chain)| append(name, scratch.rules_of_new(name, chain))));
    // Elements last: those of verdict maps refer to chains.
    for (name, set) in created().filter(|(_, set)| !set.elements.is_empty()) {
        stage.push(Operation::AddElements(name.clone(), set.elements.clone()));
    }
    stage.extend(scratch.stage());
    stage.extend(Members::pairs(patch).add());
    stage
}

/// How many rules of new chains look up each set. The kernel finds the set of a rule by comparing names one by one, in
/// the order in which the sets were added: those that many rules look up go first.
fn uses(patch: &Patch) -> BTreeMap<&Name, usize> {
    let mut uses = BTreeMap::new();
    let expressions = new_chains(patch).flat_map(|(_, chain)| &chain.rules).flat_map(|rule| &rule.expressions);
    for name in expressions.filter_map(Expression::set) {
        *uses.entry(name).or_default() += 1;
    }
    uses
}

/// The number of rules or elements.
fn weight(operation: &Operation) -> usize {
    match operation {
        Operation::AppendRules(_, rules) => rules.len(),
        Operation::AddElements(_, elements) => elements.len(),
        _ => 1,
    }
}

/// Whether an operation may be committed after those that are not bulk: rules refer to objects that these add, and
/// elements of plain sets to nothing. Ranges go in the batch of their set.
fn is_bulk(operation: &Operation) -> bool {
    let is_plain = |(key, element): (&Key, &Element)| {
        element.verdict.is_none() && !matches!(key, Key::AddressRange(..) | Key::PortRange(..))
    };
    match operation {
        Operation::AppendRules(..) => true,
        Operation::AddElements(_, elements) => elements.iter().all(is_plain),
        _ => false,
    }
}

/// The operation in parts that fit a batch.
fn pieces(operation: Operation) -> Vec<Operation> {
    match operation {
        Operation::AddElements(name, mut elements) if elements.len() > MOST => {
            let mut pieces = Vec::new();
            while let Some(key) = elements.keys().nth(MOST).cloned() {
                let rest = elements.split_off(&key);
                pieces.push(Operation::AddElements(name.clone(), std::mem::replace(&mut elements, rest)));
            }
            pieces.push(Operation::AddElements(name, elements));
            pieces
        }
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use palisade_policy::input::Family;

    use super::*;
    use crate::model::{KeyType, Set, SetKind};

    fn set(elements: u32) -> SetChange {
        let element = |number| (Key::Address(IpAddr::V4(Ipv4Addr::from_bits(number))), Element::default());
        SetChange::Create(Set {
            kind: SetKind::Set,
            key: KeyType::Address(Family::V4),
            interval: false,
            comment: None,
            elements: (0..elements).map(element).collect(),
        })
    }

    #[test]
    fn large_stages_are_split_and_lose_nothing() {
        for (elements, batches_wanted) in [(10, 1), (511, 1), (512, 2), (1_300, 4)] {
            let patch = Patch { sets: [(Name::new("pods"), set(elements))].into(), ..Patch::default() };
            let batches = batches(&patch, &Scratch::default());
            assert_eq!(batches.len(), batches_wanted, "{elements} elements");
            let added = batches.iter().flat_map(|batch| &batch.operations).map(|operation| match operation {
                Operation::AddElements(_, elements) => elements.len(),
                _ => 0,
            });
            assert_eq!(added.sum::<usize>(), elements as usize);
            assert!(batches.iter().all(|batch| batch.operations.iter().map(weight).sum::<usize>() <= MOST));
        }
    }
}
