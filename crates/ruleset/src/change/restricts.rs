//! Whether a change may deny packets that were allowed before.
//!
//! Rules look sets up to allow: an element that is added allows more. Exceptions are the maps, where an IP that is *not*
//! listed is not isolated, and the set of isolated pods, which grows only together with the maps.

use std::collections::BTreeMap;

use super::plan::{changes_rules, element_changes, is_map};
use super::{Patch, Transaction};
use crate::model::{Element, Key};

impl Patch {
    /// Whether it may deny packets that were allowed before. In doubt, it may.
    pub fn restricts(&self) -> bool {
        // No packet meets new objects, or those that are deleted, unless rules or elements change too.
        changes_rules(self) || element_changes(self).any(|(_, remove, add)| elements_restrict(remove, add))
    }
}

fn elements_restrict(remove: &BTreeMap<Key, Element>, add: &BTreeMap<Key, Element>) -> bool {
    if is_map(remove, add) {
        // Another verdict, or an IP that becomes isolated.
        add.iter().any(|(key, new)| remove.get(key).is_none_or(|old| old.verdict != new.verdict))
    } else {
        remove.keys().any(|key| !add.contains_key(key))
    }
}

impl Transaction {
    pub(super) fn restricting(self, restricts: bool) -> Self {
        Self { restricts, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ChainChange, SetChange};
    use super::*;
    use crate::model::{Chain, Hook, KeyType, Rule, Set, SetKind, Verdict};
    use crate::name::Name;
    use palisade_policy::input::Family;

    fn elements(keys: &[(u8, Option<&str>)]) -> BTreeMap<Key, Element> {
        let element = |(last, chain): &(u8, Option<&str>)| {
            let verdict = chain.map(|chain| Verdict::Jump(Name::new(chain)));
            (Key::Address([10, 0, 0, *last].into()), Element { verdict, comment: None })
        };
        keys.iter().map(element).collect()
    }

    fn patch(change: SetChange) -> Patch {
        Patch { sets: [(Name::new("s"), change)].into(), ..Patch::default() }
    }

    fn changed(remove: &[(u8, Option<&str>)], add: &[(u8, Option<&str>)]) -> bool {
        patch(SetChange::Elements { remove: elements(remove), add: elements(add) }).restricts()
    }

    #[test]
    fn peers_restrict_when_they_leave() {
        assert!(!changed(&[], &[(1, None)]));
        assert!(changed(&[(1, None)], &[]));
        assert!(changed(&[(1, None)], &[(2, None)]));
        // Only the comment changes.
        assert!(!changed(&[(1, None)], &[(1, None), (2, None)]));
    }

    #[test]
    fn maps_restrict_when_a_pod_is_isolated_or_isolated_otherwise() {
        assert!(changed(&[], &[(1, Some("a"))]));
        assert!(changed(&[(1, Some("a"))], &[(1, Some("b"))]));
        assert!(!changed(&[(1, Some("a"))], &[]));
        assert!(!changed(&[(1, Some("a"))], &[(1, Some("a"))]));
    }

    #[test]
    fn new_rules_restrict_and_objects_that_nothing_reaches_do_not() {
        let chain = |change| Patch { chains: [(Name::new("c"), change)].into(), ..Patch::default() }.restricts();
        assert!(chain(ChainChange::Rules { before: vec![Rule::default()], after: Vec::new() }));
        assert!(chain(ChainChange::Create(Chain { hook: Some(Hook::Forward), ..Chain::default() })));
        assert!(!chain(ChainChange::Create(Chain::default())));
        assert!(!chain(ChainChange::Delete));
        let (kind, key) = (SetKind::Set, KeyType::Address(Family::V4));
        let set = Set { kind, key, interval: false, comment: None, elements: elements(&[(1, None)]) };
        assert!(!patch(SetChange::Create(set)).restricts());
        assert!(!patch(SetChange::Delete).restricts());
    }
}
