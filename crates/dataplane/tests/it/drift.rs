//! Any change by another program to a plain table is a difference.

use palisade_dataplane::table::{Ownership, ReadBack, Table};
use palisade_policy::input::Family;
use palisade_ruleset::model::{Element, Key, KeyType, Ruleset, Set, SetKind};
use palisade_ruleset::name::Name;

use crate::owner::small;
use crate::space::{isolated, load};

/// Each kind of drift, by a program that can write to a plain table: a difference is found, and is gone after the table
/// is repaired as [`ReadBack::matches`] requires.
#[test]
fn every_drift_but_a_foreign_counter_is_a_difference() {
    let wanted = with_a_set();
    let drifts = [
        "add rule inet palisade group accept",
        "insert rule inet palisade group counter drop comment \"why\"",
        "flush chain inet palisade group",
        "flush chain inet palisade forward",
        "flush chain inet palisade forward; delete chain inet palisade forward",
        "flush chain inet palisade forward; delete chain inet palisade forward; add chain inet palisade forward",
        "flush chain inet palisade forward; delete chain inet palisade forward; add chain inet palisade forward \
         { type filter hook forward priority 1; }; add rule inet palisade forward ct original ip saddr vmap @verdicts comment \"why\"",
        "add chain inet palisade forward { policy drop; }",
        "add chain inet palisade theirs",
        "add chain inet palisade theirs { type filter hook forward priority 0; policy drop; }",
        "add set inet palisade theirs { type ipv4_addr; }",
        "add map inet palisade theirs { type ipv4_addr : verdict; }",
        "flush map inet palisade verdicts",
        "add element inet palisade verdicts { 10.0.0.9 : accept }",
        "flush map inet palisade verdicts; add element inet palisade verdicts { 10.0.0.1 comment \"default/a\" : accept }",
        "flush map inet palisade verdicts; add element inet palisade verdicts { 10.0.0.1 comment \"other\" : jump group }",
        "add element inet palisade peers { 10.0.0.8 }",
        "delete element inet palisade peers { 10.0.0.7 }",
        "delete set inet palisade peers",
        "delete set inet palisade peers; add set inet palisade peers { type ipv6_addr; }",
        "delete set inet palisade peers; add set inet palisade peers { type ipv4_addr; flags interval; elements = { 10.0.0.7 } }",
        "delete set inet palisade peers; add set inet palisade peers { type ipv4_addr; flags timeout; elements = { 10.0.0.7 } }",
        "delete set inet palisade peers; add set inet palisade peers { type ipv4_addr; size 1; elements = { 10.0.0.7 } }",
        "delete set inet palisade peers; add set inet palisade peers { type ipv4_addr; counter; elements = { 10.0.0.7 } }",
        "delete counter inet palisade dropped",
        "add table inet palisade { flags dormant; }",
        "delete table inet palisade",
    ];
    isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        table.replace(&wanted).unwrap();
        assert!(table.read().unwrap().matches(&wanted));
        for drift in drifts {
            load(drift);
            let found = table.read().unwrap();
            assert!(!found.matches(&wanted), "{drift}");
            put_right(&mut table, &found, &wanted);
            assert!(table.read().unwrap().matches(&wanted), "{drift}");
        }
        load("add counter inet palisade theirs");
        let found = table.read().unwrap();
        assert!(found.matches(&wanted), "a counter only");
        assert!(found.ruleset.counters.len() > wanted.counters.len());
    });
}

fn with_a_set() -> Ruleset {
    let mut wanted = small();
    let elements = [(Key::Address([10, 0, 0, 7].into()), Element::default())].into();
    let key = KeyType::Address(Family::V4);
    let peers = Set { kind: SetKind::Set, key, interval: false, comment: None, elements };
    wanted.sets.insert(Name::new("peers"), peers);
    wanted
}

/// Repairs a table that does not match, as an agent does.
fn put_right(table: &mut Table, found: &ReadBack, wanted: &Ruleset) {
    table.wake().unwrap();
    match palisade_ruleset::change::diff(&found.ruleset, wanted) {
        Ok(patch) if found.exists => drop(table.commit_transaction(&patch.plan(wanted)).unwrap()),
        _ => drop(table.replace(wanted).unwrap()),
    }
}
