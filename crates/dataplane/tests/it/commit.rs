//! Batches: atomic, large, refused, stale.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;
use palisade_dataplane::Error;
use palisade_dataplane::table::{Count, Ownership, Table};
use palisade_policy::input::Family;
use palisade_ruleset::change::{Batch, Operation, Transaction};
use palisade_ruleset::model::{
    Chain, Element, Expression, Key, KeyType, Load, Rule, Ruleset, Set, SetKind, Test, Verdict,
};
use palisade_ruleset::name::Name;

use crate::owner::small;
use crate::space::{isolated, load};

fn addresses(interval: bool) -> Set {
    Set { kind: SetKind::Set, key: KeyType::Address(Family::V4), interval, comment: None, elements: BTreeMap::new() }
}

fn named(comment: &str) -> Element {
    Element { verdict: None, comment: Some(comment.into()) }
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn element(number: u32, comment: &str) -> (Key, Element) {
    (Key::Address(address(number)), named(comment))
}

fn refused(error: Error) -> (String, Option<usize>, Errno) {
    match error {
        Error::Refused { operation, index, object, errno, hint } => {
            assert!(!hint.is_empty());
            assert_eq!(object.is_some(), index.is_some(), "{operation}");
            assert!(object.is_none_or(|object| operation.contains(object.as_str())), "{operation}");
            (operation, index, errno)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_batch_changes_nothing_and_names_the_object() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.replace(&small()).unwrap();
        let before = table.read().unwrap();
        let set = || Name::new("new");
        let good = || {
            vec![
                Operation::AddSet(set(), addresses(false)),
                Operation::AddElements(set(), [element(1, "default/a")].into()),
            ]
        };
        let look = |name: &str| Expression::Match(Load::Client(Family::V4), Test::In(Name::new(name)));
        let rules = vec![
            Rule { expressions: vec![Expression::Counter], comment: None },
            Rule { expressions: vec![look("missing")], comment: Some("web-allow ingress[0]".to_owned()) },
        ];
        let twice = |number| Operation::AddElements(set(), (1..number).map(|n| element(n, "default/b")).collect());
        let jump =
            |to: &str| Rule { expressions: vec![Expression::Verdict(Verdict::Jump(Name::new(to)))], comment: None };
        let cases: Vec<(Vec<Operation>, &str, usize, Errno)> = vec![
            (
                vec![Operation::AppendRules(Name::new("group"), rules)],
                "append rules to chain group, at rule 2 (web-allow ingress[0])",
                0,
                Errno::ENOENT,
            ),
            (vec![twice(9)], "add elements to set new, at element 10.0.0.1 (default/b)", 0, Errno::EEXIST),
            (
                vec![Operation::DeleteElements(set(), [element(7, "default/z")].into())],
                "delete elements from set new, at element 10.0.0.7 (default/z)",
                0,
                Errno::ENOENT,
            ),
            (vec![Operation::AddSet(set(), addresses(false))], "add set new", 0, Errno::EEXIST),
            (vec![Operation::DeleteSet(Name::new("missing"))], "delete set missing", 0, Errno::ENOENT),
            (vec![Operation::DeleteSet(Name::new("verdicts"))], "delete set verdicts", 0, Errno::EBUSY),
            (vec![Operation::DeleteChain(Name::new("group"))], "delete chain group", 0, Errno::EBUSY),
            (vec![Operation::AddChain(Name::new("group"), Chain::default())], "add chain group", 0, Errno::EEXIST),
            (
                vec![
                    Operation::AddCounter(Name::new("x")),
                    Operation::AppendRules(Name::new("group"), vec![jump("nowhere")]),
                ],
                "append rules to chain group, at rule 1",
                1,
                Errno::ENOENT,
            ),
        ];
        for (operations, words, place, errno) in cases {
            let batch: Vec<_> = good().into_iter().chain(operations).collect();
            assert_eq!(refused(table.commit(&batch).unwrap_err()), (words.to_owned(), Some(2 + place), errno));
            let after = table.read().unwrap();
            assert_eq!(after.ruleset, before.ruleset, "{words}");
            assert_eq!(after.generation, before.generation, "{words}");
        }
        // The kernel finds a loop at the end of a batch, if not at once.
        let circle = vec![Operation::AppendRules(Name::new("group"), vec![jump("group")])];
        let (_, _, errno) = refused(table.commit(&circle).unwrap_err());
        assert!(matches!(errno, Errno::ELOOP | Errno::EMLINK), "{errno}");
        assert_eq!(table.read().unwrap().ruleset, before.ruleset);
        // The socket still works.
        table.commit(&good()).unwrap();
        assert_eq!(table.read().unwrap().ruleset.sets[&set()].elements.len(), 1);
    });
}

#[test]
fn an_object_that_cannot_be_encoded_is_named_and_not_sent() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.replace(&small()).unwrap();
        let generation = table.generation().unwrap();
        let rule = Rule {
            expressions: vec![Expression::Match(Load::ServerPort, Test::Prefix("10.0.0.0/8".parse().unwrap()))],
            comment: Some("web".to_owned()),
        };
        let mixed = [element(1, "a"), (Key::PortRange(1, 1), named("b"))].into();
        let ports = Set { key: KeyType::Port, ..addresses(false) };
        for (operation, words) in [
            (Operation::AppendRules(Name::new("group"), vec![rule]), "rule 1 (web)"),
            (Operation::AddElements(Name::new("verdicts"), mixed), "PortRange(1, 1) does not fit"),
            (Operation::AddSet(Name::new("ports"), ports), "ports come in ranges only"),
        ] {
            let message = table.commit(&[operation]).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(table.generation().unwrap(), generation);
    });
}

#[test]
fn a_transaction_says_which_step_failed() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.replace(&small()).unwrap();
        let batches = [
            ("stage", Operation::AddCounter(Name::new("staged"))),
            ("switch", Operation::DeleteSet(Name::new("missing"))),
            ("sweep", Operation::AddCounter(Name::new("swept"))),
        ];
        let batch = |(name, operation)| Batch { name, waits: false, operations: vec![operation] };
        let transaction: Transaction = batches.into_iter().map(batch).collect();
        let error = table.commit_transaction(&transaction).unwrap_err();
        assert!(matches!(&error, Error::Step { step: "switch", .. }), "{error:?}");
        let counters = table.counters().unwrap();
        assert!(counters.contains_key(&Name::new("staged")) && !counters.contains_key(&Name::new("swept")));
    });
}

#[test]
fn a_commit_at_an_old_generation_is_stale() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let generation = table.generation().unwrap();
        let add = |name: &str| [Operation::AddCounter(Name::new(name))];
        let done = table.commit_at(&add("a"), generation).unwrap();
        assert_eq!((done.generation, done.others, done.messages), (generation + 1, false, 1));
        load("add table inet other");
        assert!(matches!(table.commit_at(&add("b"), done.generation), Err(Error::Stale)));
        assert_eq!(table.counters().unwrap().keys().map(Name::as_str).collect::<Vec<_>>(), ["a"]);
        let now = table.generation().unwrap();
        table.commit_at(&add("b"), now).unwrap();
        assert_eq!(table.counters().unwrap().len(), 2);
        assert_eq!(table.commit(&[]).unwrap().messages, 0);
    });
}

#[test]
fn fifty_thousand_elements_and_thousands_of_chains_fit_one_batch() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let long = "x".repeat(128);
        let mut big = addresses(false);
        big.elements = (0..50_000).map(|n| element(n, if n % 2 == 0 { "default/pod" } else { &long })).collect();
        let mut ranges = addresses(true);
        ranges.elements =
            (0..10_000).map(|n| (Key::AddressRange(address(4 * n), address(4 * n + 2)), named("range"))).collect();
        let rules: Vec<_> = (0..10)
            .map(|_| Rule {
                expressions: vec![
                    Expression::Match(Load::Client(Family::V4), Test::In(Name::new("big"))),
                    Expression::Counter,
                    Expression::Verdict(Verdict::Accept),
                ],
                comment: Some(long.clone()),
            })
            .collect();
        let chains =
            (0..2000).map(|n| (Name::new(&format!("chain/{n}")), Chain { rules: rules.clone(), ..Chain::default() }));
        let ruleset = Ruleset {
            counters: BTreeSet::new(),
            sets: [(Name::new("big"), big.clone()), (Name::new("ranges"), ranges)].into(),
            chains: chains.collect(),
        };
        let done = table.replace(&ruleset).unwrap();
        assert!(done.bytes > 10 << 20, "{done:?}");
        assert_eq!(table.read().unwrap().ruleset, ruleset);
        // And deleted again, all but one.
        let mut gone = big.elements;
        let kept = gone.pop_first().unwrap();
        table.commit(&[Operation::DeleteElements(Name::new("big"), gone)]).unwrap();
        assert_eq!(table.read().unwrap().ruleset.sets[&Name::new("big")].elements, [kept].into());
    });
}

#[test]
fn a_wrong_element_among_fifty_thousand_is_named() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let set = Name::new("big");
        let first = [element(43_210, "default/first")].into();
        table
            .commit(&[Operation::AddSet(set.clone(), addresses(false)), Operation::AddElements(set.clone(), first)])
            .unwrap();
        let all = (0..50_000).map(|n| element(n, "default/again")).collect();
        let (words, index, errno) = refused(table.commit(&[Operation::AddElements(set.clone(), all)]).unwrap_err());
        let wrong = address(43_210);
        assert_eq!(words, format!("add elements to set big, at element {wrong} (default/again)"));
        assert_eq!((index, errno), (Some(0), Errno::EEXIST));
        assert_eq!(table.read().unwrap().ruleset.sets[&set].elements.len(), 1);
    });
}

#[test]
fn thousands_of_refusals_are_still_a_refusal() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let generation = table.generation().unwrap();
        let operations: Vec<_> =
            (0..20_000).map(|n| Operation::DeleteSet(Name::new(&format!("missing/{n}")))).collect();
        let (words, index, errno) = refused(table.commit(&operations).unwrap_err());
        assert_eq!((words.as_str(), index, errno), ("delete set missing/0", Some(0), Errno::ENOENT));
        assert_eq!(table.generation().unwrap(), generation);
        table.commit(&[Operation::AddCounter(Name::new("fine"))]).unwrap();
    });
}

#[test]
fn elements_change_comment_verdict_and_extent_in_one_batch() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let mut before = small();
        let range = |first, last| Key::AddressRange(address(first), address(last));
        let mut ranges = addresses(true);
        ranges.elements = [(range(0, 9), named("a")), (range(10, 19), named("b")), (range(30, 39), named("c"))].into();
        before.sets.insert(Name::new("ranges"), ranges);
        table.replace(&before).unwrap();
        let mut after = before.clone();
        let map = after.sets.get_mut(&Name::new("verdicts")).unwrap();
        for element in map.elements.values_mut() {
            *element = Element { verdict: Some(Verdict::Drop), comment: Some("default/b".into()) };
        }
        let ranges = after.sets.get_mut(&Name::new("ranges")).unwrap();
        ranges.elements = [(range(0, 4), named("a")), (range(5, 19), named("b")), (range(30, 39), named("d"))].into();
        let patch = palisade_ruleset::change::diff(&before, &after).unwrap();
        table.commit_transaction(&patch.plan(&after)).unwrap();
        assert_eq!(table.read().unwrap().ruleset, after);
    });
}

#[test]
fn counters_count_and_are_read() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let name = Name::new("seen");
        let rule = Rule { expressions: vec![Expression::CountIn(name.clone())], comment: None };
        let input = Chain { hook: Some(palisade_ruleset::model::Hook::Input), comment: None, rules: vec![rule] };
        let ruleset = Ruleset {
            counters: [name.clone()].into(),
            sets: BTreeMap::new(),
            chains: [(Name::new("input"), input)].into(),
        };
        table.replace(&ruleset).unwrap();
        assert_eq!(table.counters().unwrap()[&name], Count::default());
        crate::space::output("ip", &["link", "set", "lo", "up"], "");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            socket.send_to(&[0; 72], socket.local_addr().unwrap()).unwrap();
        }
        let count = table.counters().unwrap()[&name];
        assert_eq!((count.packets, count.bytes), (3, 300), "72 bytes each, and 28 of headers");
    });
}
