//! Who may change the table, what happens to it without its agent, and that nothing else is touched.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use palisade_dataplane::Error;
use palisade_dataplane::table::{self, Ownership, Table};
use palisade_policy::input::Family;
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Chain, Element, Expression, Hook, Key, KeyType, Rule, Ruleset, Set, SetKind, Verdict};
use palisade_ruleset::name::Name;

use crate::space::{isolated, list, list_all, load, run, wait_unowned};

/// A small table with a base chain.
pub(crate) fn small() -> Ruleset {
    let rule = |expressions| Rule { expressions, comment: Some("why".to_owned()) };
    let map = Set {
        kind: SetKind::VerdictMap,
        key: KeyType::Address(Family::V4),
        interval: false,
        comment: None,
        elements: [(
            Key::Address([10, 0, 0, 1].into()),
            Element { verdict: Some(Verdict::Jump(Name::new("group"))), comment: Some("default/a".into()) },
        )]
        .into(),
    };
    let group = vec![rule(vec![Expression::Counter, Expression::Verdict(Verdict::Drop)])];
    let forward =
        vec![rule(vec![Expression::Vmap(palisade_ruleset::model::Load::Client(Family::V4), Name::new("verdicts"))])];
    Ruleset {
        counters: [Name::new("dropped")].into(),
        sets: [(Name::new("verdicts"), map)].into(),
        chains: [
            (Name::new("group"), Chain { rules: group, ..Chain::default() }),
            (Name::new("forward"), Chain { hook: Some(Hook::Forward), comment: None, rules: forward }),
        ]
        .into(),
    }
}

const FOREIGN: &str = "
table inet other {
	set s { type ipv4_addr; comment \"mine\"; elements = { 10.0.0.1 comment \"x\" } }
	chain forward { type filter hook forward priority filter; policy accept; ip saddr @s counter drop comment \"y\"; }
	chain theirs { }
	counter theirs { }
}
table ip palisade {
	chain theirs { counter; }
	chain forward { type filter hook forward priority filter; policy accept; counter; }
	set verdicts { type ipv4_addr; }
}
table bridge palisade {
	chain forward { type filter hook forward priority filter; policy accept; }
}
";

/// The listing of everything except our table.
fn foreign() -> String {
    let tables = [("inet", "other"), ("ip", "palisade"), ("bridge", "palisade")];
    tables.map(|(family, name)| crate::space::output("nft", &["list", "table", family, name], "")).concat()
}

#[test]
fn foreign_writes_cannot_touch_a_live_table() {
    isolated(|| {
        let mut table = Table::open(Ownership::Automatic).unwrap();
        assert!(table.is_owned(), "this kernel is too old: tables that outlive their owner need Linux 6.9");
        table.replace(&small()).unwrap();
        let before = table.read().unwrap();
        assert!(run("nft", &["flush", "ruleset"], "").status.success(), "it skips the table");
        for write in [
            "add rule inet palisade group accept",
            "flush chain inet palisade group",
            "delete table inet palisade",
            "add element inet palisade verdicts { 10.0.0.9 : accept }",
            "add chain inet palisade mine",
        ] {
            let refused = run("nft", &["-f", "-"], write);
            assert!(!refused.status.success(), "{write}");
            let message = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(message.contains("Operation not permitted"), "{write}: {message}");
        }
        assert_eq!(table.read().unwrap().ruleset, before.ruleset);
    });
}

#[test]
fn a_table_outlives_its_agent_and_is_adopted_as_it_is() {
    isolated(|| {
        let mut first = Table::open(Ownership::Automatic).unwrap();
        first.replace(&small()).unwrap();
        drop(first);
        wait_unowned();
        assert!(list().contains("jump group"), "it stays");
        let mut second = Table::open(Ownership::Automatic).unwrap();
        assert!(second.is_owned());
        assert_eq!(second.read().unwrap().ruleset, small());
        // Adopted for good: another program's flush skips it again, and we can write.
        assert!(run("nft", &["flush", "ruleset"], "").status.success());
        second.commit(&[Operation::FlushChain(Name::new("group"))]).unwrap();
        assert!(second.read().unwrap().ruleset.chains[&Name::new("group")].rules.is_empty());
    });
}

#[test]
fn a_second_agent_learns_who_owns_the_table() {
    isolated(|| {
        let first = Table::open(Ownership::Automatic).unwrap();
        let myself = std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned();
        for error in [
            Table::open(Ownership::Automatic).map(|_| ()).unwrap_err(),
            Table::open(Ownership::Plain).map(|_| ()).unwrap_err(),
            table::cleanup().map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Owned { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(&format!("process {}, {myself}", std::process::id())), "{message}");
            assert!(message.contains("owns table inet palisade"), "{message}");
        }
        drop(first);
        wait_unowned();
        assert!(Table::open(Ownership::Automatic).unwrap().is_owned());
    });
}

#[test]
fn a_plain_table_of_ours_gets_an_owner_with_its_contents() {
    isolated(|| {
        Table::open(Ownership::Plain).unwrap().replace(&small()).unwrap();
        let mut table = Table::open(Ownership::Automatic).unwrap();
        assert!(table.is_owned());
        assert_eq!(table.read().unwrap().ruleset, small());
    });
}

#[test]
fn a_plain_table_with_something_foreign_is_read_and_healed() {
    isolated(|| {
        Table::open(Ownership::Plain).unwrap().replace(&small()).unwrap();
        load(
            "add rule inet palisade group meta mark 5 accept\nadd chain inet palisade mine\n\
              add set inet palisade numbers { type mark; }\nadd rule inet palisade mine tcp dport { 1, 2 } accept",
        );
        let mut table = Table::open(Ownership::Automatic).unwrap();
        assert!(!table.is_owned());
        let found = table.read().unwrap();
        assert_eq!(found.undecodable.keys().collect::<Vec<_>>(), ["__set0", "group", "mine", "numbers"]);
        assert_eq!(found.ruleset.chains[&Name::new("group")].rules, [Rule::default()]);
        // A difference makes the table ours again, without a replacement.
        let patch = palisade_ruleset::change::diff(&found.ruleset, &small()).unwrap();
        table.commit_transaction(&patch.plan(&small())).unwrap();
        let healed = table.read().unwrap();
        assert_eq!(healed.undecodable, BTreeMap::new());
        assert_eq!(healed.ruleset, small());
    });
}

#[test]
fn rules_that_only_resemble_ours_are_foreign() {
    isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        table.replace(&small()).unwrap();
        for rule in [
            "ct original ip saddr != 10.0.0.0/9 accept",
            "ct original ip saddr != 10.0.0.0/8 accept",
            "ct original ip saddr 10.0.0.0/9 ct mark set 5",
            "meta nfproto ipv4 ip saddr & 255.0.255.0 == 10.0.0.0 accept",
            "ct original ip saddr != 10.0.0.1-10.0.0.5 accept",
            "meta l4proto tcp ct reply proto-src >= 80 accept",
            "meta l4proto tcp tcp flags & (fin|syn|rst|ack) != ack accept",
            "ct original ip saddr != @theirs accept",
            "ct state != new accept",
            "meta l4proto != tcp accept",
            "meta mark 5 accept",
            "limit rate 5/second accept",
            "log prefix \"x\" accept",
            "reject",
        ] {
            load(&format!(
                "add set inet palisade theirs {{ type ipv4_addr; }}\nadd chain inet palisade x\nflush chain inet palisade x\nadd rule inet palisade x {rule}"
            ));
            let found = table.read().unwrap();
            assert_eq!(found.undecodable.keys().collect::<Vec<_>>(), ["x"], "{rule}");
            assert_eq!(found.ruleset.chains[&Name::new("x")].rules, [Rule::default()], "{rule}");
        }
    });
}

#[test]
fn base_chains_that_hook_elsewhere_are_foreign() {
    isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        for hook in [
            "type filter hook output priority filter; policy accept;",
            "type filter hook forward priority 5; policy accept;",
            "type filter hook forward priority filter; policy drop;",
            "type nat hook input priority filter; policy accept;",
        ] {
            load(&format!("add chain inet palisade x {{ {hook} }}"));
            let found = table.read().unwrap();
            assert_eq!(found.undecodable.keys().collect::<Vec<_>>(), ["x"], "{hook}");
            // A difference removes it.
            let patch = palisade_ruleset::change::diff(&found.ruleset, &Ruleset::default()).unwrap();
            table.commit_transaction(&patch.plan(&Ruleset::default())).unwrap();
            assert_eq!(table.read().unwrap().ruleset, Ruleset::default());
        }
    });
}

#[test]
fn rules_that_others_insert_or_move_in_a_plain_table_are_found() {
    isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        table.replace(&small()).unwrap();
        let generation = table.read().unwrap().generation;
        load("insert rule inet palisade group counter drop comment \"why\"");
        assert_ne!(table.generation().unwrap(), generation);
        let found = table.read().unwrap();
        assert_eq!(found.ruleset.chains[&Name::new("group")].rules.len(), 2);
        assert_ne!(found.ruleset, small());
    });
}

/// Polling for another agent's end costs nothing and leaves nothing behind.
#[test]
fn waiting_for_the_owner_is_cheap() {
    isolated(|| {
        let first = Table::open(Ownership::Automatic).unwrap();
        let ports = || std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap().lines().count();
        let (open, before) = (ports(), list_all());
        let start = std::time::Instant::now();
        for _ in 0..100 {
            assert!(matches!(Table::open(Ownership::Automatic), Err(Error::Owned { .. })));
        }
        println!("100 times: {:?}", start.elapsed());
        assert!(table::owner().unwrap().is_some());
        // A process that another test starts holds this one's files for a moment.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ports() > open {
            assert!(std::time::Instant::now() < deadline, "sockets stay open");
            thread::yield_now();
        }
        assert_eq!(list_all(), before, "nothing was written");
        drop(first);
        wait_unowned();
        assert!(Table::open(Ownership::Automatic).unwrap().is_owned(), "at once");
    });
}

#[test]
fn other_tables_stay_as_they_are() {
    isolated(|| {
        load(FOREIGN);
        let before = foreign();
        let mut table = Table::open(Ownership::Automatic).unwrap();
        table.replace(&small()).unwrap();
        table.commit(&[Operation::FlushChain(Name::new("forward"))]).unwrap();
        let ruleset = table.read().unwrap().ruleset;
        assert_eq!(ruleset.sets.keys().map(Name::as_str).collect::<Vec<_>>(), ["verdicts"]);
        assert_eq!(ruleset.chains.keys().map(Name::as_str).collect::<Vec<_>>(), ["forward", "group"]);
        assert_eq!(ruleset.counters.iter().map(Name::as_str).collect::<Vec<_>>(), ["dropped"]);
        assert!(table.read().unwrap().ruleset.chains[&Name::new("forward")].rules.is_empty());
        table.replace(&small()).unwrap();
        table.delete().unwrap();
        assert_eq!(foreign(), before);
        assert!(!list_all().contains("table inet palisade"));
    });
}

#[test]
fn cleanup_removes_what_a_dead_agent_left() {
    isolated(|| {
        assert!(!table::cleanup().unwrap(), "nothing is there");
        for ownership in [Ownership::Automatic, Ownership::Plain] {
            Table::open(ownership).unwrap().replace(&small()).unwrap();
            wait_unowned();
            assert!(table::cleanup().unwrap());
            assert_eq!(list_all(), "");
        }
    });
}

#[test]
fn a_first_load_has_no_rules_in_base_chains_before_everything_else_is_there() {
    isolated(|| {
        let (monitor, lines) = mpsc::channel();
        let mut watcher = Command::new("nft")
            .args(["monitor"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("nft is installed");
        let output = watcher.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                let Ok(line) = line else { return };
                if monitor.send(line).is_err() {
                    return;
                }
            }
        });
        // The watcher is ready when it reports a change; tables with another name are created until it does.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        for number in 0.. {
            load(&format!("add table inet probe{number}"));
            if lines.recv_timeout(std::time::Duration::from_millis(50)).is_ok() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "nft monitor reports nothing");
        }
        Table::open(Ownership::Plain).unwrap().replace(&small()).unwrap();
        load("add table inet last");
        let mut seen = Vec::new();
        while let Ok(line) = lines.recv_timeout(std::time::Duration::from_secs(10)) {
            if line.contains("table inet last") {
                break;
            }
            seen.push(line);
        }
        watcher.kill().unwrap();
        watcher.wait().unwrap();
        reader.join().unwrap();
        let place = |what: &str| {
            seen.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {seen:#?}"))
        };
        let base = place("add rule inet palisade forward");
        assert!(base > place("add rule inet palisade group"));
        assert!(base > place("create element inet palisade verdicts"));
        // Generations separate the batches.
        let rest = &seen[place("create element inet palisade verdicts")..base];
        assert!(rest.iter().any(|line| line.starts_with("# new generation")), "{seen:#?}");
    });
}
