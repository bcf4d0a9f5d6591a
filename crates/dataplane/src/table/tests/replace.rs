//! A table that is replaced, and a replacement that was cut short.

use std::net::Ipv4Addr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use palisade_policy::input::Family;
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{
    Chain, Element, Expression, Hook, Key, KeyType, Load, Rule, Ruleset, Set, SetKind, Verdict,
};
use palisade_ruleset::name::Name;

use super::listing;
use crate::packets::slow::{Slow, send_slowly};
use crate::packets::visit;
use crate::space::{isolated, wait_unowned};
use crate::table::{Ownership, Table, batches_of, cleanup, commit, read};

/// Drops every packet of 127.0.0.1, by a verdict map as our tables do.
fn closed(comment: &str) -> Ruleset {
    let loopback = Key::Address(Ipv4Addr::LOCALHOST.into());
    let verdicts = Set {
        kind: SetKind::VerdictMap,
        key: KeyType::Address(Family::V4),
        interval: false,
        comment: None,
        elements: [(loopback, Element { verdict: Some(Verdict::Drop), comment: None })].into(),
    };
    let map = Name::new("verdicts");
    let rule = Rule { expressions: vec![Expression::Vmap(Load::Client(Family::V4), map.clone())], comment: None };
    let chain = Chain { hook: Some(Hook::Input), comment: Some(comment.to_owned()), rules: vec![rule] };
    Ruleset { sets: [(map, verdicts)].into(), chains: [(Name::new("input"), chain)].into(), ..Ruleset::default() }
}

/// Acts on the table while a packet is in the hook that has not reached the table yet; it must not pass.
fn while_in_flight(prepare: fn(&mut Table), act: fn(&mut Table)) {
    isolated(|| {
        let slow = Slow::new();
        let Slow { receiver, time, .. } = &slow;
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.replace(&closed("before")).unwrap();
        let to = receiver.local_addr().unwrap();
        // None if the machine was too busy for that.
        let mut try_once = |number: usize| {
            prepare(&mut table);
            // Otherwise the next wait is because of these batches.
            table.wait_for_packets();
            thread::scope(|scope| {
                visit(1).unwrap();
                let (begins, has_begun) = channel();
                let sender = scope.spawn(move || send_slowly(to, &begins));
                has_begun.recv().unwrap();
                thread::sleep(*time / 8);
                let started = Instant::now();
                act(&mut table);
                let (began, ended) = sender.join().unwrap();
                assert!(receiver.recv(&mut [0; 8]).is_err(), "the packet passed, at attempt {number}");
                (began + *time / 16 < started && started < ended).then_some(())
            })
        };
        assert_eq!((0..400).filter_map(&mut try_once).take(10).count(), 10, "the machine is too busy");
        assert!(!listing().contains("palisade-next"));
    });
}

fn raise(table: &mut Table) {
    commit::raise_next(table, read::OWNED, &operations("after")).unwrap();
}

fn operations(comment: &str) -> Vec<Operation> {
    batches_of(&closed(comment)).concat()
}

#[test]
fn a_packet_in_flight_does_not_pass_while_the_table_is_replaced() {
    while_in_flight(
        |_| {},
        |table| {
            table.replace(&closed("after")).unwrap();
        },
    );
}

#[test]
fn a_packet_that_needs_the_second_table_meets_it() {
    while_in_flight(raise, |table| {
        commit::swap(table, read::OWNED, &operations("after")).unwrap();
        commit::clear_next(table).unwrap();
    });
}

/// Leaves what an agent leaves that is killed while it replaces the table.
fn cut_short() {
    let mut table = Table::open(Ownership::Automatic).unwrap();
    table.replace(&closed("before")).unwrap();
    raise(&mut table);
    drop(table);
    wait_unowned();
    assert!(listing().contains("palisade-next"));
}

#[test]
fn a_replacement_that_was_cut_short_is_cleared_away() {
    isolated(|| {
        cut_short();
        let mut next = Table::open(Ownership::Automatic).unwrap();
        assert_eq!(next.read().unwrap().ruleset, closed("before"));
        assert!(!listing().contains("palisade-next"));
        // One that finds it while replacing has no use for it.
        drop(next);
        wait_unowned();
        cut_short();
        let mut next = Table::open(Ownership::Automatic).unwrap();
        next.replace(&closed("again")).unwrap();
        assert_eq!(next.read().unwrap().ruleset, closed("again"));
        assert!(!listing().contains("palisade-next"));
    });
}

#[test]
fn cleanup_removes_a_replacement_that_was_cut_short() {
    isolated(|| {
        cut_short();
        assert!(cleanup().unwrap());
        assert_eq!(listing(), "");
        // The table may be gone already.
        cut_short();
        super::nft("delete table inet palisade");
        assert!(!cleanup().unwrap());
        assert_eq!(listing(), "");
    });
}
