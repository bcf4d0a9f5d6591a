//! How the model kernel applies operations.

#![expect(clippy::panic, reason = "it stands for the kernel, and panics where that refuses")]

use palisade_ruleset::cache::{self, Stamp};
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Ruleset, Verdict};

const EXISTS: &str = "EEXIST";
const MISSING: &str = "ENOENT";
const BUSY: &str = "EBUSY";

/// Applies one operation to a table, as the kernel would. The objects in it must or must not exist, as the kernel
/// requires.
///
/// # Panics
/// If the kernel would reject it.
pub fn perform(table: &mut Ruleset, operation: &Operation) {
    if let Err(errno) = try_perform(table, operation) {
        panic!("{errno}: {operation:?}");
    }
}

/// The table while the verdict cache uses this stamp.
///
/// # Panics
/// If the table has no chains for it.
pub fn with_stamp(mut table: Ruleset, stamp: Stamp) -> Ruleset {
    cache::resume(stamp).operations.iter().for_each(|operation| perform(&mut table, operation));
    table
}

/// Like [`perform`], but returns the kernel's error.
///
/// # Errors
/// If the kernel would reject it; the table is then no longer what it was.
pub fn try_perform(table: &mut Ruleset, operation: &Operation) -> Result<(), &'static str> {
    let must = |holds: bool, errno| if holds { Ok(()) } else { Err(errno) };
    match operation.clone() {
        Operation::AddCounter(name) => drop(table.counters.insert(name)),
        Operation::AddSet(name, set) => must(table.sets.insert(name, set).is_none(), EXISTS)?,
        Operation::DeleteSet(name) => must(table.sets.remove(&name).is_some(), MISSING)?,
        Operation::AddElements(name, new) => {
            let set = table.sets.get_mut(&name).ok_or(MISSING)?;
            for (key, element) in new {
                must(set.elements.insert(key, element).is_none(), EXISTS)?;
            }
        }
        Operation::DeleteElements(name, gone) => {
            let set = table.sets.get_mut(&name).ok_or(MISSING)?;
            for key in gone.keys() {
                must(set.elements.remove(key).is_some(), MISSING)?;
            }
        }
        Operation::AddChain(name, chain) => must(table.chains.insert(name, chain).is_none(), EXISTS)?,
        Operation::FlushChain(name) => table.chains.get_mut(&name).ok_or(MISSING)?.rules.clear(),
        Operation::DeleteChain(name) => {
            let gone = table.chains.remove(&name).ok_or(MISSING)?;
            must(gone.rules.is_empty(), BUSY)?;
            let mut elements = table.sets.values().flat_map(|set| set.elements.values());
            let leads_there = |verdict: &Verdict| verdict.chain() == Some(&name);
            must(!elements.any(|element| element.verdict.as_ref().is_some_and(leads_there)), BUSY)?;
        }
        Operation::AppendRules(name, rules) => table.chains.get_mut(&name).ok_or(MISSING)?.rules.extend(rules),
    }
    Ok(())
}
