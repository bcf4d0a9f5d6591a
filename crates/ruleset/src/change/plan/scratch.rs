//! Objects that exist only during a transaction: copies of sets with their new elements, copies of chains with their
//! old and new rules, and chains that require two others to allow.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use palisade_policy::Pulse;

use super::super::{ChainChange, Operation, Patch};
use super::{Members, append, changed_maps, exchange, flush_and_append};
use crate::model::{Chain, Element, Expression, Key, KeyType, Rule, Ruleset, Set, SetKind, Verdict};
use crate::name::Name;

/// The temporary objects of one transaction.
#[derive(Default)]
pub(super) struct Scratch {
    /// The sets that are read through copies, by name: the copy's name and content.
    copies: BTreeMap<Name, (Name, Set)>,
    /// The chains whose rules change: their old rules, and their new ones, which read copies.
    switched: BTreeMap<Name, (Vec<Rule>, Vec<Rule>)>,
    /// New chains that read copies.
    staged: BTreeSet<Name>,
    /// Chains that exist only during the transaction.
    chains: Vec<(Name, Vec<Rule>)>,
    /// Their names by their rules.
    by_rules: HashMap<Vec<Rule>, Name>,
    /// The first numbers to try for the next copy of a set and the next chain.
    next_set: u64,
    next_chain: u64,
    restrict: Vec<Operation>,
    finish: Vec<Operation>,
}

impl Scratch {
    /// Makes rules read a copy, with the new elements, of every set whose elements change.
    pub(super) fn copy_sets(&mut self, patch: &Patch, after: &Ruleset, members: &Members<'_>, pulse: &Pulse) {
        for name in members.sets() {
            pulse.beat();
            if let Some(set) = after.sets.get(name) {
                self.copy(patch, name, set.clone());
            }
        }
        let behind_maps = self.copy_port_maps(patch, after);
        for (name, chain) in &after.chains {
            let new = || self.reading_copies(&chain.rules);
            match patch.chains.get(name) {
                Some(ChainChange::Rules { before, .. }) => {
                    self.switched.insert(name.clone(), (before.clone(), new()));
                }
                _ if behind_maps.contains(name) || !self.reads_copies(&chain.rules) => {}
                None => {
                    self.switched.insert(name.clone(), (chain.rules.clone(), new()));
                }
                Some(_) => {
                    self.staged.insert(name.clone());
                }
            }
            pulse.beat();
        }
    }

    fn copy(&mut self, patch: &Patch, name: &Name, set: Set) {
        let copy = free("scratch/set", &mut self.next_set, |copy| patch.sets.contains_key(copy));
        self.copies.insert(name.clone(), (copy, set));
    }

    /// Copies each map from ports to chains that read copied sets, and these chains. Rules then switch to the copy of
    /// the map, and the original chains stay as they are. Returns the chains behind all such maps.
    fn copy_port_maps<'a>(&mut self, patch: &Patch, after: &'a Ruleset) -> BTreeSet<&'a Name> {
        let mut behind = BTreeSet::new();
        let mut copies = Vec::new();
        for (name, map) in after.sets.iter().filter(|(_, set)| set.key == KeyType::Port) {
            let (mut copy, mut leads_to_copies) = (map.clone(), false);
            for (element, original) in copy.elements.values_mut().zip(map.elements.values()) {
                let Some((target, chain)) = target(original).and_then(|name| after.chains.get_key_value(name)) else {
                    continue;
                };
                behind.insert(target);
                if self.reads_copies(&chain.rules) {
                    let rules = self.reading_copies(&chain.rules);
                    element.verdict = Some(Verdict::Goto(self.chain(patch, rules)));
                    leads_to_copies = true;
                }
            }
            if leads_to_copies {
                copies.push((name, copy));
            }
        }
        for (name, map) in copies {
            self.copy(patch, name, map);
        }
        behind
    }

    /// The initial rules of a new chain.
    pub(super) fn rules_of_new(&self, name: &Name, chain: &Chain) -> Vec<Rule> {
        if self.staged.contains(name) { self.reading_copies(&chain.rules) } else { chain.rules.clone() }
    }

    /// Whether any of the rules looks up a copied set.
    fn reads_copies(&self, rules: &[Rule]) -> bool {
        let mut sets = rules.iter().flat_map(|rule| &rule.expressions).filter_map(Expression::set);
        sets.any(|name| self.copies.contains_key(name))
    }

    /// The rules, with copied sets replaced by their copies.
    fn reading_copies(&self, rules: &[Rule]) -> Vec<Rule> {
        let mut rules = rules.to_vec();
        for name in rules.iter_mut().flat_map(|rule| &mut rule.expressions).filter_map(Expression::set_mut) {
            if let Some((copy, _)) = self.copies.get(name) {
                *name = copy.clone();
            }
        }
        rules
    }

    /// Makes changing map elements point to a chain where the old and the new one must both allow, until the
    /// transaction ends.
    pub(super) fn restrict(&mut self, patch: &Patch) {
        for (map, remove, add) in changed_maps(patch) {
            let (mut gone, mut restricted, mut last, mut finished) =
                (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let keys: BTreeSet<&Key> = remove.keys().chain(add.keys()).collect();
            for key in keys {
                let (old, new) = (remove.get(key), add.get(key));
                let middle = self.both(patch, old, new);
                if old != Some(&middle) {
                    gone.extend(old.map(|old| (key.clone(), old.clone())));
                    restricted.insert(key.clone(), middle.clone());
                }
                if new != Some(&middle) {
                    last.insert(key.clone(), middle);
                    finished.extend(new.map(|new| (key.clone(), new.clone())));
                }
            }
            self.restrict.extend(exchange(map, gone, restricted));
            self.finish.extend(exchange(map, last, finished));
        }
    }

    /// An element that allows only flows that the old and the new one both allow. At least one of them exists.
    fn both(&mut self, patch: &Patch, old: Option<&Element>, new: Option<&Element>) -> Element {
        let before = old.and_then(target).map(|chain| self.before(patch, chain));
        let after = new.and_then(target).map(|chain| self.after(patch, chain));
        let chain = match (before, after) {
            (Some(before), Some(after)) if before != after => {
                // Chains of groups return what they allow and drop the rest.
                let jump = |chain| Rule { expressions: vec![Expression::Verdict(Verdict::Jump(chain))], comment: None };
                Some(self.chain(patch, vec![jump(before), jump(after)]))
            }
            (before, after) => after.or(before),
        };
        let like = new.or(old).cloned().unwrap_or_default();
        Element { verdict: chain.map(Verdict::Jump).or_else(|| like.verdict.clone()), comment: like.comment }
    }

    /// A chain as it was before the transaction: itself, or a copy if its rules change.
    fn before(&mut self, patch: &Patch, chain: &Name) -> Name {
        match self.switched.get(chain).map(|(before, _)| before.clone()) {
            Some(rules) => self.chain(patch, rules),
            None => chain.clone(),
        }
    }

    /// A chain as it will be after the transaction. A new one is already final.
    fn after(&mut self, patch: &Patch, chain: &Name) -> Name {
        match self.switched.get(chain).map(|(_, after)| after.clone()) {
            Some(rules) => self.chain(patch, rules),
            None => chain.clone(),
        }
    }

    fn chain(&mut self, patch: &Patch, rules: Vec<Rule>) -> Name {
        if let Some(name) = self.by_rules.get(&rules) {
            return name.clone();
        }
        let name = free("scratch", &mut self.next_chain, |name| patch.chains.contains_key(name));
        self.by_rules.insert(rules.clone(), name.clone());
        self.chains.push((name.clone(), rules));
        name
    }

    /// The copies of sets and maps; those of maps are still empty.
    pub(super) fn stage_sets(&self) -> impl Iterator<Item = Operation> {
        let add = |(copy, set): &(Name, Set)| {
            let elements = if set.kind == SetKind::Set { set.elements.clone() } else { BTreeMap::new() };
            let add = Operation::AddSet(copy.clone(), set.without_elements());
            std::iter::once(add).chain(exchange(copy, BTreeMap::new(), elements))
        };
        self.copies.values().flat_map(add)
    }

    /// The chains, then the map elements that lead to them.
    pub(super) fn stage(&self) -> Vec<Operation> {
        let adds = self.chains.iter().map(|(name, _)| Operation::AddChain(name.clone(), Chain::default()));
        let rules = self.chains.iter().filter_map(|(name, rules)| append(name, rules.clone()));
        let maps = self.copies.values().filter(|(_, set)| set.kind == SetKind::VerdictMap);
        let elements = maps.flat_map(|(copy, map)| exchange(copy, BTreeMap::new(), map.elements.clone()));
        adds.chain(rules).chain(elements).collect()
    }

    pub(super) fn restricted(&self) -> Vec<Operation> {
        self.restrict.clone()
    }

    pub(super) fn switch(&self) -> impl Iterator<Item = Operation> {
        self.switched.iter().flat_map(|(name, (_, after))| flush_and_append(name, after.clone()))
    }

    pub(super) fn finished(&self) -> Vec<Operation> {
        self.finish.clone()
    }

    /// Makes the rules read the sets directly again.
    pub(super) fn unshadow(&self, after: &Ruleset) -> Vec<Operation> {
        let chains = after.chains.iter().filter(|(name, chain)| {
            self.staged.contains(*name) || self.switched.get(*name).is_some_and(|(_, rules)| *rules != chain.rules)
        });
        chains.flat_map(|(name, chain)| flush_and_append(name, chain.rules.clone())).collect()
    }

    pub(super) fn sweep(&self) -> Vec<Operation> {
        let flushes = self.chains.iter().map(|(name, _)| Operation::FlushChain(name.clone()));
        let sets = self.copies.values().map(|(copy, _)| Operation::DeleteSet(copy.clone()));
        flushes.chain(sets).chain(self.chains.iter().map(|(name, _)| Operation::DeleteChain(name.clone()))).collect()
    }
}

fn target(element: &Element) -> Option<&Name> {
    element.verdict.as_ref().and_then(Verdict::chain)
}

/// The next numbered name that is free. This transaction deletes the leftovers of an interrupted one like any other
/// unwanted object, so their names are not free before its end.
fn free(prefix: &str, next: &mut u64, taken: impl Fn(&Name) -> bool) -> Name {
    loop {
        let name = Name::new(&format!("{prefix}/{next}"));
        *next += 1;
        if !taken(&name) {
            return name;
        }
    }
}
