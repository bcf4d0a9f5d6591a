//! What can only be tested on the wire: the kernel holds byte for byte what nft would load, and a batch whose answer is
//! lost is handled.
//!
//! `tests/it/main.rs` lists the faults that these tests have found.

mod faults;
mod replace;

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use palisade_policy::input::Family;
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{
    Chain, Element, Expression, Hook, Key, KeyType, Load, Rule, Ruleset, Set, SetKind, TABLE, Test, Verdict,
};
use palisade_ruleset::name::Name;

use super::batch::Batch;
use super::commit::{Outcome, judge};
use super::{Ownership, Table, commit, read};
use crate::Error;
use crate::codec::{msg, nfgenmsg, nfnl, nfproto, nft, nfta};
use crate::netlink::faults as injected;
use crate::netlink::{Answer, Attributes, Header, Socket, Writer};
use crate::space::{isolated, load, wait_unowned};

const EVERY: &str = include_str!("../../tests/it/every.nft");

/// The attributes of a dumped object, except those that number it.
fn without(body: &[u8], numbers: &[u16]) -> Vec<(u16, Vec<u8>)> {
    let attributes = Attributes::after(body, 4).iter();
    attributes.filter(|(kind, _)| !numbers.contains(kind)).map(|(kind, value)| (kind, value.to_vec())).collect()
}

/// The attributes of objects: first the object's, then those of its rules or elements.
type Objects = BTreeMap<String, Vec<Vec<(u16, Vec<u8>)>>>;

/// Everything in our table as the kernel dumps it, by object; a set's elements are sorted.
fn raw(table: &mut Table) -> Objects {
    let socket = &mut table.socket;
    let mut objects = Objects::new();
    // Handles, use counts and positions.
    for body in read::dump(socket, msg::GETCHAIN, "chains", |_| {}).unwrap() {
        let name = Attributes::after(&body, 4).string(nfta::CHAIN_NAME).unwrap().to_owned();
        objects.insert(format!("chain {name}"), vec![without(&body, &[2, 6, 11])]);
    }
    for body in read::dump(socket, msg::GETRULE, "rules", |_| {}).unwrap() {
        let chain = Attributes::after(&body, 4).string(nfta::RULE_CHAIN).unwrap().to_owned();
        objects.get_mut(&format!("chain {chain}")).unwrap().push(without(&body, &[3, 6]));
    }
    for body in read::dump(socket, msg::GETSET, "sets", |_| {}).unwrap() {
        let name = Attributes::after(&body, 4).string(nfta::SET_NAME).unwrap().to_owned();
        let bodies = read::dump(socket, msg::GETSETELEM, "elements", |writer| {
            writer.string(nfta::SET_ELEM_LIST_SET, &name);
        });
        let mut elements: Vec<_> = bodies
            .unwrap()
            .iter()
            .flat_map(|body| Attributes::after(body, 4).nest(nfta::SET_ELEM_LIST_ELEMENTS).iter())
            .map(|(kind, value)| vec![(kind, value.to_vec())])
            .collect();
        elements.sort();
        elements.insert(0, without(&body, &[16]));
        objects.insert(format!("set {name}"), elements);
    }
    objects
}

#[test]
fn the_kernel_holds_what_nft_would_have_put_there() {
    let (theirs, model) = isolated(|| {
        load(EVERY);
        let mut table = Table::open(Ownership::Plain).unwrap();
        (raw(&mut table), table.read().unwrap().ruleset)
    });
    let ours = isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        table.replace(&model).unwrap();
        raw(&mut table)
    });
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(ours.len() > 15);
    for (name, object) in &ours {
        assert_eq!(object, &theirs[name], "{name}");
    }
}

#[test]
fn errors_that_do_not_fit_the_buffer_are_still_a_refusal() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.socket.shrink();
        let generation = table.generation().unwrap();
        let missing = |n: i32| Operation::DeleteSet(Name::new(&format!("missing/{n}")));
        let operations: Vec<_> = (0..1000).map(missing).collect();
        let error = table.commit(&operations).unwrap_err();
        assert!(matches!(&error, Error::Refused { index: Some(0), errno: Errno::ENOENT, .. }), "{error:?}");
        assert_eq!(table.generation().unwrap(), generation);
        table.commit(&[Operation::AddCounter(Name::new("fine"))]).unwrap();
    });
}

/// Fills the socket's receive buffer with unread answers, so that no more fit.
fn congest(table: &mut Table) {
    for sequence in 0..100 {
        let mut writer = Writer::default();
        let header = Header { kind: msg::GETGEN, flags: crate::netlink::REQUEST, sequence };
        writer.message(header, |writer| nfgenmsg(writer, 0, 0));
        // ENOBUFS only means that an answer did not fit.
        table.socket.send(writer.bytes()).ok();
    }
}

#[test]
fn a_lost_answer_is_noticed_and_the_generation_decides() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.socket.shrink();
        let before = table.generation().unwrap();
        let batch = |name: &str| {
            let operations = [Operation::AddCounter(Name::new(name))];
            let mut batch = Batch::new(TABLE, Some(before));
            batch.add(&operations, &mut 0).unwrap();
            batch.finish().bytes
        };
        congest(&mut table);
        table.socket.send(&batch("lost")).unwrap();
        let answers = table.socket.answers().unwrap();
        assert_eq!(answers, [Answer::Lost], "the acknowledgement did not fit");
        let after = table.generation().unwrap();
        assert_eq!(judge(&answers, Some(before), before, after), Outcome::Done);
        assert_eq!(judge(&answers, None, before, after), Outcome::Unknown);
        assert!(table.counters().unwrap().contains_key(&Name::new("lost")));
    });
}

#[test]
fn outcomes_follow_from_answers_and_generations() {
    let refused = |errno| Answer::Refused { sequence: 7, errno, offset: None };
    let done = Answer::Done(9);
    // An aborted batch may come with its acknowledgement.
    let both = judge(&[done, refused(Errno::ENOENT)], None, 1, 1);
    assert_eq!(both, Outcome::Refused { sequence: 7, errno: Errno::ENOENT, offset: None });
    assert_eq!(judge(&[refused(Errno::ERESTART)], Some(1), 1, 2), Outcome::Stale);
    assert_eq!(judge(&[done], None, 1, 5), Outcome::Done);
    assert_eq!(judge(&[Answer::Lost], Some(1), 1, 1), Outcome::NotDone);
    assert_eq!(judge(&[Answer::Lost], Some(1), 1, 3), Outcome::Unknown);
    assert_eq!(judge(&[], None, 1, 2), Outcome::Unknown);
    // Generation 0 is left out.
    assert_eq!(judge(&[], Some(u32::MAX), u32::MAX, 1), Outcome::Done);
}

/// A closed socket stays open for a moment if another test is starting a process, which still holds this one's files.
fn wait_until_closed() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while injected::without(super::owner).unwrap().is_some() {
        assert!(Instant::now() < deadline, "the table still has an owner");
        thread::yield_now();
    }
}

/// Runs nft in this thread's namespace.
fn nft(command: &str) {
    let done = Command::new("nft").arg(command).output().expect("nft is installed");
    assert!(done.status.success(), "{command}: {done:?}");
}

/// Every table in the network namespace.
fn listing() -> String {
    let listed = Command::new("nft").args(["list", "ruleset"]).output().expect("nft is installed");
    String::from_utf8(listed.stdout).expect("UTF-8")
}

#[test]
fn a_dormant_table_is_seen_and_woken() {
    isolated(|| {
        load(EVERY);
        let wanted = Table::open(Ownership::Plain).unwrap().read().unwrap().ruleset;
        nft("add table inet palisade { flags dormant; }");
        let mut table = Table::open(Ownership::Plain).unwrap();
        let found = table.read().unwrap();
        assert!(found.dormant && !found.matches(&wanted), "only the dormant flag differs");
        assert_eq!(found.ruleset, wanted);
        assert!(table.wake().unwrap());
        assert!(table.read().unwrap().matches(&wanted));
        let generation = table.generation().unwrap();
        assert!(!table.wake().unwrap());
        assert_eq!(table.generation().unwrap(), generation, "nothing was written");
        // Replacing the table, giving it an owner and adopting it wake it, too.
        nft("add table inet palisade { flags dormant; }");
        table.replace(&wanted).unwrap();
        assert!(table.read().unwrap().matches(&wanted));
        nft("add table inet palisade { flags dormant; }");
        let mut owned = Table::open(Ownership::Automatic).unwrap();
        assert!(owned.is_owned());
        assert!(owned.read().unwrap().matches(&wanted));
        drop(owned);
        wait_unowned();
        let mut orphan = Table::open(Ownership::Plain).unwrap();
        commit::claim(&mut orphan, nft::TABLE_F_PERSIST | nft::TABLE_F_DORMANT).unwrap();
        assert!(orphan.read().unwrap().dormant);
        assert!(orphan.wake().unwrap());
        commit::claim(&mut orphan, nft::TABLE_F_PERSIST | nft::TABLE_F_DORMANT).unwrap();
        let mut adopted = Table::open(Ownership::Automatic).unwrap();
        assert!(adopted.is_owned());
        assert!(adopted.read().unwrap().matches(&wanted));
    });
}

/// An owner that the kernel takes for dead (here because another socket adopts the table) gets the table back.
#[test]
fn an_owner_that_was_lost_is_claimed_again() {
    isolated(|| {
        let wanted = small_steps().remove(1);
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.replace(&wanted).unwrap();
        assert!(!table.changed_by_others().unwrap());
        // The same value with another socket: the first one is closed, and its ownership ends.
        table.socket = Socket::open(crate::netlink::NETFILTER).unwrap();
        wait_until_closed();
        assert!(table.changed_by_others().unwrap());
        let found = table.read().unwrap();
        assert!(found.unowned && !found.matches(&wanted));
        assert_eq!(found.ruleset, wanted);
        assert!(table.wake().unwrap());
        assert!(table.read().unwrap().matches(&wanted));
        assert!(!table.changed_by_others().unwrap());
        assert!(!table.wake().unwrap());
    });
}

/// An element can have an expression (nft accepts one only if the set is declared with it), such as a limit, so that it
/// matches only sometimes. It counts as foreign.
#[test]
fn an_element_with_an_expression_is_not_ours() {
    isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        let wanted = small_steps().remove(1);
        table.replace(&wanted).unwrap();
        let mut writer = Writer::default();
        let mut message = |kind, flags, fill: &dyn Fn(&mut Writer)| {
            let header = Header { kind, flags: flags | crate::netlink::REQUEST, sequence: 1 << 31 };
            writer.message(header, fill);
        };
        message(nfnl::MSG_BATCH_BEGIN, 0, &|writer| nfgenmsg(writer, 0, nfnl::SUBSYS_NFTABLES));
        message(msg::NEWSETELEM, crate::netlink::CREATE | crate::netlink::ACK, &|writer| {
            nfgenmsg(writer, nfproto::INET, 0);
            writer.string(nfta::SET_TABLE, "palisade");
            writer.string(nfta::SET_ELEM_LIST_SET, "peers");
            writer.nest(nfta::SET_ELEM_LIST_ELEMENTS, |writer| {
                writer.nest(nfta::LIST_ELEM, |writer| {
                    writer.nest(nfta::SET_ELEM_KEY, |writer| writer.attribute(nfta::DATA_VALUE, &[10, 0, 0, 9]));
                    writer.nest(nfta::SET_ELEM_EXPR, |writer| {
                        writer.string(nfta::EXPR_NAME, "counter");
                        writer.nest(nfta::EXPR_DATA, |_| {});
                    });
                });
            });
        });
        message(nfnl::MSG_BATCH_END, 0, &|writer| nfgenmsg(writer, 0, nfnl::SUBSYS_NFTABLES));
        table.socket.send(writer.bytes()).unwrap();
        assert!(matches!(table.socket.answers().unwrap()[..], [Answer::Done(_)]));
        let found = table.read().unwrap();
        assert!(!found.matches(&wanted));
        assert_eq!(found.undecodable.keys().collect::<Vec<_>>(), ["peers"]);
    });
}

/// A foreign write at each system call of a commit and of a replacement: before and after the batch it is noticed, and
/// without one nothing is noticed.
#[test]
fn a_write_of_others_around_a_commit_is_noticed_until_the_table_is_read() {
    isolated(|| {
        load(EVERY);
        let mut table = Table::open(Ownership::Plain).unwrap();
        assert!(table.changed_by_others().unwrap(), "unknown until the table is read");
        let wanted = table.read().unwrap().ruleset;
        let add = |n: u64| [Operation::AddCounter(Name::new(&format!("counter/{n}")))];
        injected::arm(&[]);
        table.commit(&add(1000)).unwrap();
        let (calls, _) = injected::disarm();
        assert!(!table.changed_by_others().unwrap(), "our own write");
        table.replace(&wanted).unwrap();
        assert!(!table.changed_by_others().unwrap(), "our own write");
        for call in 0..=calls {
            injected::act_before(call, || nft("add chain inet palisade theirs"));
            table.commit(&add(call)).unwrap();
            injected::disarm();
            if call == calls {
                nft("add chain inet palisade theirs");
            }
            table.commit(&add(call + 100)).unwrap();
            assert!(table.changed_by_others().unwrap(), "before system call {call}");
            assert!(table.changed_by_others().unwrap(), "asking does not clear it");
            let found = table.read().unwrap();
            assert!(!found.matches(&wanted));
            assert!(!table.changed_by_others().unwrap(), "reading clears it");
            table.commit(&[Operation::DeleteChain(Name::new("theirs"))]).unwrap();
        }
        assert!(calls >= 5, "{calls}");
    });
}

#[test]
fn a_replacement_is_known_to_be_whole_only_if_nobody_wrote_around_it() {
    isolated(|| {
        load(EVERY);
        let mut table = Table::open(Ownership::Plain).unwrap();
        let wanted = table.read().unwrap().ruleset;
        injected::arm(&[]);
        table.replace(&wanted).unwrap();
        let (calls, _) = injected::disarm();
        let mut left = 0;
        for call in 0..=calls {
            injected::act_before(call, || nft("add chain inet palisade theirs"));
            table.replace(&wanted).unwrap();
            injected::disarm();
            let noticed = table.changed_by_others().unwrap();
            let there = !table.read().unwrap().matches(&wanted);
            left += usize::from(there);
            assert!(noticed || !there, "at system call {call}");
        }
        assert!(left > 0, "some of these writes came after the batch");
    });
}

#[test]
fn watching_for_changes_survives_a_full_buffer() {
    isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        let mut changes = table.foreign_changes().unwrap();
        changes.shrink();
        for _ in 0..50 {
            nft("add table inet other");
            nft("delete table inet other");
        }
        assert!(changes.wait().unwrap(), "something was lost");
        table.commit(&[Operation::AddCounter(Name::new("ours"))]).unwrap();
        // What is still in the buffer may come first.
        let deadline = Instant::now() + Duration::from_secs(10);
        nft("add chain inet palisade theirs");
        while !changes.wait().unwrap() {
            assert!(Instant::now() < deadline, "it no longer receives changes");
        }
    });
}

/// A few small rulesets with a base chain, maps and sets, each made from the previous one by an everyday policy change.
fn small_steps() -> Vec<Ruleset> {
    let rule = |expressions| Rule { expressions, comment: Some("web".to_owned()) };
    let address = |last: u8| Key::Address([10, 0, 0, last].into());
    let set =
        |kind, elements| Set { kind, key: KeyType::Address(Family::V4), interval: false, comment: None, elements };
    let (map, peers, group) = (Name::new("verdicts"), Name::new("peers"), Name::new("group"));
    let look = Expression::Vmap(Load::Client(Family::V4), map.clone());
    let jump = |last| {
        let verdict = Some(Verdict::Jump(group.clone()));
        (address(last), Element { verdict, comment: Some(format!("default/{last}").into()) })
    };
    let allow = |server: Family| {
        let from = Expression::Match(Load::Server(server), Test::In(peers.clone()));
        rule(vec![from, Expression::Counter, Expression::Verdict(Verdict::Accept)])
    };
    let deny = rule(vec![Expression::CountIn(Name::new("dropped")), Expression::Verdict(Verdict::Drop)]);
    let forward = Chain { hook: Some(Hook::Forward), comment: None, rules: vec![rule(vec![look])] };
    let base = Ruleset {
        counters: [Name::new("dropped")].into(),
        sets: [(map.clone(), set(SetKind::VerdictMap, BTreeMap::new()))].into(),
        chains: [(Name::new("forward"), forward)].into(),
    };
    let mut isolated = base.clone();
    isolated.sets.insert(peers.clone(), set(SetKind::Set, [(address(7), Element::default())].into()));
    isolated.chains.insert(group.clone(), Chain { rules: vec![allow(Family::V4), deny.clone()], ..Chain::default() });
    isolated.sets.get_mut(&map).unwrap().elements.extend([jump(1), jump(2)]);
    let mut moved = isolated.clone();
    moved.sets.get_mut(&peers).unwrap().elements = [(address(8), Element::default())].into();
    moved.sets.get_mut(&map).unwrap().elements = [jump(2), jump(3)].into();
    moved.chains.get_mut(&group).unwrap().rules = vec![deny];
    vec![base, isolated, moved]
}
