//! What the kernel does with operations, on the model.

#![expect(clippy::expect_used, reason = "it stands for the kernel, and panics where that refuses")]

use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Ruleset, Verdict};

/// Does one operation to a table, as the kernel would. What it names must be there, or must not be, as the kernel demands.
///
/// # Panics
/// Where the kernel would refuse.
pub fn perform(table: &mut Ruleset, operation: &Operation) {
    match operation.clone() {
        Operation::AddCounter(name) => drop(table.counters.insert(name)),
        Operation::AddSet(name, set) => assert!(table.sets.insert(name, set).is_none(), "EEXIST"),
        Operation::DeleteSet(name) => assert!(table.sets.remove(&name).is_some(), "ENOENT"),
        Operation::AddElements(name, new) => {
            let set = table.sets.get_mut(&name).expect("ENOENT");
            for (key, element) in new {
                assert!(set.elements.insert(key, element).is_none(), "EEXIST");
            }
        }
        Operation::DeleteElements(name, gone) => {
            let set = table.sets.get_mut(&name).expect("ENOENT");
            for key in gone.keys() {
                assert!(set.elements.remove(key).is_some(), "ENOENT");
            }
        }
        Operation::AddChain(name, chain) => assert!(table.chains.insert(name, chain).is_none(), "EEXIST"),
        Operation::FlushChain(name) => table.chains.get_mut(&name).expect("ENOENT").rules.clear(),
        Operation::DeleteChain(name) => {
            let gone = table.chains.remove(&name).expect("ENOENT");
            assert!(gone.rules.is_empty(), "{name} still has rules");
            let elements = || table.sets.values().flat_map(|set| set.elements.values());
            assert!(
                elements().all(|element| element.verdict.as_ref().and_then(Verdict::chain) != Some(&name)),
                "EBUSY"
            );
        }
        Operation::AppendRules(name, rules) => table.chains.get_mut(&name).expect("ENOENT").rules.extend(rules),
    }
}
