//! The order in which the kernel sees a patch, so that at no moment a packet passes that neither state allows, and none is
//! lost that both allow.
//!
//! | batch | what it does |
//! |---|---|
//! | stage | new sets, maps and chains; nothing leads there yet |
//! | narrow | map elements that change lead to where old *and* new must allow |
//! | widen | an address that moves between sets is added to its new ones |
//! | switch | elements leave sets, rules change |
//! | add | elements that could not come before the rules changed |
//! | settle | map elements lead to where they shall |
//! | sweep | what nothing leads to any more is deleted |
//!
//! A flow is judged by a map element for one of its ends and by what that chain's sets say of the other. Without *narrow*, a
//! packet under way could pass its egress by the old map and its ingress by the new sets, which neither state allows.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChainChange, Operation, Patch, SetChange, Transaction};
use crate::model::{Chain, Element, Expression, Key, Rule, Test, Verdict};
use crate::name::Name;

/// Elements by the set they are in.
type Elements<'a> = BTreeMap<&'a Name, &'a BTreeMap<Key, Element>>;

pub(super) fn plan(patch: &Patch) -> Transaction {
    let members = Members::of(patch);
    let rules = rule_changes(patch);
    let transits = if needs_narrowing(patch, &members, &rules) { Transits::of(patch) } else { Transits::default() };
    let mut stage = stage(patch);
    stage.extend(transits.stage());
    let mut switch = members.remove();
    let transaction = Transaction::default().then("stage", stage).then("narrow", transits.narrow.clone());
    let transaction = if rules.is_empty() && members.move_between_sets() {
        transaction.then("widen", members.add()).then("switch", switch)
    } else if rules.is_empty() && (members.added.is_empty() || members.removed.is_empty()) {
        switch.extend(members.add());
        if transits.narrow.is_empty() && transits.settle.is_empty() {
            switch.extend(map_changes(patch));
        }
        transaction.then("switch", switch)
    } else {
        // Old rules must not meet new members, nor new rules old ones: leave, change, come.
        switch.extend(rules);
        if transits.narrow.is_empty() && transits.settle.is_empty() {
            switch.extend(map_changes(patch));
        }
        transaction.then("switch", switch).then("add", members.add())
    };
    let mut sweep = transits.sweep();
    sweep.extend(self::sweep(patch));
    transaction.then("settle", transits.settle).then("sweep", sweep)
}

/// Elements of plain sets that went and that came.
struct Members<'a> {
    removed: Elements<'a>,
    added: Elements<'a>,
}

impl<'a> Members<'a> {
    fn of(patch: &'a Patch) -> Self {
        let (mut removed, mut added) = (Elements::new(), Elements::new());
        for (name, remove, add) in element_changes(patch).filter(|(_, remove, add)| !is_map(remove, add)) {
            if !remove.is_empty() {
                removed.insert(name, remove);
            }
            if !add.is_empty() {
                added.insert(name, add);
            }
        }
        Self { removed, added }
    }

    fn remove(&self) -> Vec<Operation> {
        self.removed.iter().map(|(name, gone)| Operation::DeleteElements((*name).clone(), (*gone).clone())).collect()
    }

    fn add(&self) -> Vec<Operation> {
        self.added.iter().map(|(name, new)| Operation::AddElements((*name).clone(), (*new).clone())).collect()
    }

    /// Whether addresses go from some sets to others; additions then come first, or a packet that has missed an address in
    /// its new set could miss it in its old one too.
    fn move_between_sets(&self) -> bool {
        let replaced = self
            .removed
            .iter()
            .any(|(name, gone)| self.added.get(name).is_some_and(|new| new.keys().any(|key| gone.contains_key(key))));
        !self.removed.is_empty() && !self.added.is_empty() && !replaced
    }
}

/// Changed elements of verdict maps on their way from the old chain to the new one.
#[derive(Default)]
struct Transits {
    /// Chains that exist only during the transaction.
    chains: Vec<(Name, Vec<Rule>)>,
    narrow: Vec<Operation>,
    settle: Vec<Operation>,
}

impl Transits {
    fn of(patch: &Patch) -> Self {
        let mut transits = Self::default();
        for (map, remove, add) in element_changes(patch).filter(|(_, remove, add)| is_map(remove, add)) {
            let (mut gone, mut narrow, mut last, mut settled) =
                (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let keys: BTreeSet<&Key> = remove.keys().chain(add.keys()).collect();
            for key in keys {
                let (old, new) = (remove.get(key), add.get(key));
                let middle = transits.both(patch, old, new);
                if old != Some(&middle) {
                    gone.extend(old.map(|old| (key.clone(), old.clone())));
                    narrow.insert(key.clone(), middle.clone());
                }
                if new != Some(&middle) {
                    last.insert(key.clone(), middle);
                    settled.extend(new.map(|new| (key.clone(), new.clone())));
                }
            }
            push(&mut transits.narrow, map, gone, narrow);
            push(&mut transits.settle, map, last, settled);
        }
        transits
    }

    /// An element that allows what the old and the new one both allow. At least one is there.
    fn both(&mut self, patch: &Patch, old: Option<&Element>, new: Option<&Element>) -> Element {
        let before = old.and_then(target).map(|chain| self.version(patch, chain, true));
        let after = new.and_then(target).map(|chain| self.version(patch, chain, false));
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

    /// A chain as it was before the transaction, or as it is after it: itself, or a copy if its rules change meanwhile.
    fn version(&mut self, patch: &Patch, chain: &Name, old: bool) -> Name {
        match patch.chains.get(chain) {
            Some(ChainChange::Rules { before, after }) => {
                self.chain(patch, if old { before.clone() } else { after.clone() })
            }
            _ => chain.clone(),
        }
    }

    fn chain(&mut self, patch: &Patch, rules: Vec<Rule>) -> Name {
        if let Some((name, _)) = self.chains.iter().find(|(_, present)| *present == rules) {
            return name.clone();
        }
        // What an interrupted transaction left behind is deleted by this one, and its name is not free before the end.
        let numbers = 0..=self.chains.len() + patch.chains.len();
        let free = |name: &Name| !patch.chains.contains_key(name) && self.chains.iter().all(|(taken, _)| taken != name);
        let name = numbers.map(|number| Name::new(&format!("transit/{number}"))).find(free);
        let name = name.unwrap_or_else(|| Name::new("transit/last"));
        self.chains.push((name.clone(), rules));
        name
    }

    fn stage(&self) -> Vec<Operation> {
        let adds = self.chains.iter().map(|(name, _)| Operation::AddChain(name.clone(), Chain::default()));
        adds.chain(self.chains.iter().filter_map(|(name, rules)| append(name, rules))).collect()
    }

    fn sweep(&self) -> Vec<Operation> {
        let flushes = self.chains.iter().map(|(name, _)| Operation::FlushChain(name.clone()));
        flushes.chain(self.chains.iter().map(|(name, _)| Operation::DeleteChain(name.clone()))).collect()
    }
}

fn push(operations: &mut Vec<Operation>, map: &Name, gone: BTreeMap<Key, Element>, new: BTreeMap<Key, Element>) {
    if !gone.is_empty() {
        operations.push(Operation::DeleteElements(map.clone(), gone));
    }
    if !new.is_empty() {
        operations.push(Operation::AddElements(map.clone(), new));
    }
}

fn target(element: &Element) -> Option<&Name> {
    element.verdict.as_ref().and_then(Verdict::chain)
}

/// Map elements alone may change at once, if they are of one map: each packet finds the old or the new one.
fn needs_narrowing(patch: &Patch, members: &Members<'_>, rules: &[Operation]) -> bool {
    let maps = element_changes(patch).filter(|(_, remove, add)| is_map(remove, add)).count();
    let jumps = |element: &Element| matches!(element.verdict, Some(Verdict::Jump(_)));
    let all_jump = element_changes(patch)
        .filter(|(_, remove, add)| is_map(remove, add))
        .all(|(_, remove, add)| remove.values().chain(add.values()).all(jumps));
    maps > 0 && all_jump && (maps > 1 || !members.removed.is_empty() || !members.added.is_empty() || !rules.is_empty())
}

/// The changes of map elements, at once.
fn map_changes(patch: &Patch) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (map, remove, add) in element_changes(patch).filter(|(_, remove, add)| is_map(remove, add)) {
        push(&mut operations, map, remove.clone(), add.clone());
    }
    operations
}

/// The sets and maps that stay and whose elements change.
fn element_changes(patch: &Patch) -> impl Iterator<Item = (&Name, &BTreeMap<Key, Element>, &BTreeMap<Key, Element>)> {
    patch.sets.iter().filter_map(|(name, change)| match change {
        SetChange::Elements { remove, add } => Some((name, remove, add)),
        _ => None,
    })
}

fn is_map(remove: &BTreeMap<Key, Element>, add: &BTreeMap<Key, Element>) -> bool {
    remove.values().chain(add.values()).any(|element| element.verdict.is_some())
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
            ChainChange::Rules { after, .. } => {
                operations.push(Operation::FlushChain(name.clone()));
                operations.extend(append(name, after));
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
