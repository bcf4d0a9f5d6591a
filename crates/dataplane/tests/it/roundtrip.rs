//! What we write equals what nft writes, and is read back unchanged.

use std::collections::BTreeMap;

use palisade_dataplane::table::{Ownership, Table};
use palisade_policy::input::{Family, Protocol};
use palisade_ruleset::change::diff;
use palisade_ruleset::model::{
    Chain, CtStates, Element, Expression, Key, KeyType, L4, Load, MarkBits, PacketType, Rule, Ruleset, Set, SetKind,
    Test, Verdict,
};
use palisade_ruleset::name::Name;
use proptest::test_runner::{Config, TestRunner};

use crate::generate::{comment, ruleset};
use crate::space::{isolated, list, load};

const EVERY: &str = include_str!("every.nft");

fn is(load: Load, test: Test) -> Expression {
    Expression::Match(load, test)
}

fn prefix(text: &str) -> Test {
    Test::Prefix(text.parse().unwrap())
}

fn tcp() -> Expression {
    is(Load::L4Proto, Test::L4(L4::Transport(Protocol::Tcp)))
}

fn udp() -> Expression {
    is(Load::L4Proto, Test::L4(L4::Transport(Protocol::Udp)))
}

fn v4() -> Expression {
    is(Load::Nfproto, Test::Family(Family::V4))
}

fn v6() -> Expression {
    is(Load::Nfproto, Test::Family(Family::V6))
}

/// Rules as nft reads them, and their form in the model.
fn rules() -> Vec<(&'static str, Vec<Expression>)> {
    use Family::{V4, V6};
    let set = |name: &str| Test::In(Name::new(name));
    let accept = || Expression::Verdict(Verdict::Accept);
    let states = |invalid, untracked| Test::States(CtStates { invalid, untracked, ..CtStates::default() });
    let all = CtStates { invalid: true, established: true, related: true, new: true, untracked: true };
    let bits = |mask, value| MarkBits { mask, value };
    let pair = |first, second| Expression::Lookup(vec![first, second], Name::new("pair4"));
    vec![
        ("meta nfproto ipv4", vec![v4()]),
        ("meta nfproto ipv6", vec![v6()]),
        ("meta l4proto tcp", vec![tcp()]),
        ("meta l4proto udp", vec![udp()]),
        ("meta l4proto sctp", vec![is(Load::L4Proto, Test::L4(L4::Transport(Protocol::Sctp)))]),
        ("meta l4proto icmp", vec![is(Load::L4Proto, Test::L4(L4::Icmp))]),
        ("meta l4proto ipv6-icmp", vec![is(Load::L4Proto, Test::L4(L4::Icmpv6))]),
        ("iifname @names", vec![is(Load::InputInterface, set("names"))]),
        ("meta pkttype broadcast", vec![is(Load::PacketType, Test::PacketType(PacketType::Broadcast))]),
        ("meta pkttype multicast", vec![is(Load::PacketType, Test::PacketType(PacketType::Multicast))]),
        ("fib saddr type unicast", vec![is(Load::SourceType, Test::PacketType(PacketType::Unicast))]),
        ("ct mark 0x00010000/16", vec![is(Load::CtMark, Test::Mark(bits(0xffff_0000, 0x1_0000)))]),
        ("ct mark & 0x0000ff00 == 0x00000100", vec![is(Load::CtMark, Test::Mark(bits(0xff00, 0x100)))]),
        ("ct mark set ct mark & 0x0001ffff | 0x00010000", vec![Expression::SetMark(bits(0xffff_0000, 0x1_0000))]),
        ("ct mark set ct mark | 0xff000000", vec![Expression::SetMark(bits(0xff00_0000, 0xff00_0000))]),
        ("fib daddr type broadcast", vec![is(Load::DestinationType, Test::PacketType(PacketType::Broadcast))]),
        ("fib daddr type multicast", vec![is(Load::DestinationType, Test::PacketType(PacketType::Multicast))]),
        ("ct state invalid", vec![is(Load::CtState, states(true, false))]),
        ("ct state invalid,untracked", vec![is(Load::CtState, states(true, true))]),
        ("ct state new", vec![is(Load::CtState, Test::States(CtStates { new: true, ..CtStates::default() }))]),
        ("ct state invalid,established,related,new,untracked", vec![is(Load::CtState, Test::States(all))]),
        ("ct original ip saddr 10.0.0.1", vec![is(Load::Client(V4), prefix("10.0.0.1/32"))]),
        ("ct original ip saddr 10.0.0.0/8", vec![is(Load::Client(V4), prefix("10.0.0.0/8"))]),
        ("ct reply ip saddr 10.0.0.0/16", vec![is(Load::Server(V4), prefix("10.0.0.0/16"))]),
        ("ct reply ip saddr 10.0.0.0/24", vec![is(Load::Server(V4), prefix("10.0.0.0/24"))]),
        ("ct reply ip saddr 10.0.0.0/13", vec![is(Load::Server(V4), prefix("10.0.0.0/13"))]),
        ("ct reply ip saddr 0.0.0.0/0", vec![is(Load::Server(V4), prefix("0.0.0.0/0"))]),
        ("ct reply ip saddr 128.0.0.0/1", vec![is(Load::Server(V4), prefix("128.0.0.0/1"))]),
        ("ct reply ip saddr 10.0.0.2/31", vec![is(Load::Server(V4), prefix("10.0.0.2/31"))]),
        ("ct reply ip saddr 255.255.255.255", vec![is(Load::Server(V4), prefix("255.255.255.255/32"))]),
        ("ct original ip6 saddr ::/0", vec![is(Load::Client(V6), prefix("::/0"))]),
        ("ct original ip6 saddr fd00::/17", vec![is(Load::Client(V6), prefix("fd00::/17"))]),
        ("ct original ip6 saddr fd00::/64", vec![is(Load::Client(V6), prefix("fd00::/64"))]),
        ("ct reply ip6 saddr fd00::1", vec![is(Load::Server(V6), prefix("fd00::1/128"))]),
        (
            "ct original ip saddr 10.0.0.5-10.0.0.9",
            vec![is(Load::Client(V4), Test::AddressRange("10.0.0.5".parse().unwrap(), "10.0.0.9".parse().unwrap()))],
        ),
        (
            "ct reply ip6 saddr ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            vec![is(Load::Server(V6), Test::AddressRange("::".parse().unwrap(), [0xff; 16].into()))],
        ),
        ("ct original ip saddr @addresses4", vec![is(Load::Client(V4), set("addresses4"))]),
        ("ct reply ip6 saddr @ranges6", vec![is(Load::Server(V6), set("ranges6"))]),
        ("meta l4proto tcp ct reply proto-src 1", vec![tcp(), is(Load::ServerPort, Test::Range(1, 1))]),
        ("meta l4proto tcp ct reply proto-src 1-65535", vec![tcp(), is(Load::ServerPort, Test::Range(1, 65535))]),
        ("meta l4proto tcp ct reply proto-src 65535", vec![tcp(), is(Load::ServerPort, Test::Range(65535, 65535))]),
        ("meta l4proto tcp ct reply proto-src @ports", vec![tcp(), is(Load::ServerPort, set("ports"))]),
        (
            "meta l4proto tcp ct original proto-src 1-32767",
            vec![tcp(), is(Load::OriginalSourcePort, Test::Range(1, 32767))],
        ),
        (
            "meta l4proto tcp ct original proto-dst 32768-65535",
            vec![tcp(), is(Load::OriginalDestinationPort, Test::Range(32768, 65535))],
        ),
        (
            "meta l4proto tcp ct reply ip saddr . ct reply proto-src @named4",
            vec![tcp(), Expression::Lookup(vec![Load::Server(V4), Load::ServerPort], Name::new("named4"))],
        ),
        (
            "meta l4proto tcp ct reply ip6 saddr . ct reply proto-src @named6",
            vec![tcp(), Expression::Lookup(vec![Load::Server(V6), Load::ServerPort], Name::new("named6"))],
        ),
        ("ct original ip saddr . ct reply ip saddr @pair4", vec![pair(Load::Client(V4), Load::Server(V4))]),
        (
            "ct original ip6 saddr . ct reply ip6 saddr @pair6",
            vec![Expression::Lookup(vec![Load::Client(V6), Load::Server(V6)], Name::new("pair6"))],
        ),
        ("ip saddr 10.0.0.1", vec![v4(), is(Load::PacketSource(V4), prefix("10.0.0.1/32"))]),
        ("ip daddr 224.0.0.0/4", vec![v4(), is(Load::PacketDestination(V4), prefix("224.0.0.0/4"))]),
        ("ip daddr 10.0.0.0/8", vec![v4(), is(Load::PacketDestination(V4), prefix("10.0.0.0/8"))]),
        ("ip saddr 0.0.0.0/0", vec![v4(), is(Load::PacketSource(V4), prefix("0.0.0.0/0"))]),
        ("ip6 saddr fe80::/10", vec![v6(), is(Load::PacketSource(V6), prefix("fe80::/10"))]),
        ("ip6 daddr ff00::/8", vec![v6(), is(Load::PacketDestination(V6), prefix("ff00::/8"))]),
        ("ip6 daddr ff00::/24", vec![v6(), is(Load::PacketDestination(V6), prefix("ff00::/24"))]),
        ("ip6 hoplimit 255", vec![v6(), is(Load::HopLimit, Test::Range(255, 255))]),
        (
            "icmpv6 type 133-136",
            vec![v6(), is(Load::L4Proto, Test::L4(L4::Icmpv6)), is(Load::Icmpv6Type, Test::Range(133, 136))],
        ),
        ("meta l4proto tcp tcp flags & (fin|syn|rst|ack) == ack", vec![tcp(), is(Load::TcpFlags, Test::MidStream)]),
        ("udp dport 53", vec![udp(), is(Load::DestinationPort(Protocol::Udp), Test::Range(53, 53))]),
        (
            "ct state untracked sctp dport 1-65535 ip6 daddr fd00::/8",
            vec![
                is(Load::CtState, states(false, true)),
                is(Load::L4Proto, Test::L4(L4::Transport(Protocol::Sctp))),
                is(Load::DestinationPort(Protocol::Sctp), Test::Range(1, 65535)),
                v6(),
                is(Load::PacketDestination(V6), prefix("fd00::/8")),
            ],
        ),
        ("ct original ip saddr vmap @verdicts4", vec![Expression::Vmap(Load::Client(V4), Name::new("verdicts4"))]),
        ("ip saddr vmap @verdicts4", vec![v4(), Expression::Vmap(Load::PacketSource(V4), Name::new("verdicts4"))]),
        (
            "meta l4proto tcp ct reply proto-src vmap @port-verdicts",
            vec![tcp(), Expression::Vmap(Load::ServerPort, Name::new("port-verdicts"))],
        ),
        ("counter", vec![Expression::Counter]),
        ("counter name seen", vec![Expression::CountIn(Name::new("seen"))]),
        ("accept", vec![accept()]),
        ("drop", vec![Expression::Verdict(Verdict::Drop)]),
        ("return", vec![Expression::Verdict(Verdict::Return)]),
        ("jump leaf", vec![Expression::Verdict(Verdict::Jump(Name::new("leaf")))]),
        ("counter goto leaf", vec![Expression::Counter, Expression::Verdict(Verdict::Goto(Name::new("leaf")))]),
    ]
}

/// The sets that [`rules`] names, with the limits of every key type.
const SETS: &str = r#"
    counter seen { }
    set names { type ifname; elements = { "cni0", "veth0123456789a" }; }
    set addresses4 { type ipv4_addr; elements = { 0.0.0.0, 255.255.255.255 comment "last" }; }
    set addresses6 { type ipv6_addr; comment "in words"; elements = { ::, ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff }; }
    set ranges4 { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 comment "all" }; }
    set ranges6 { type ipv6_addr; flags interval; elements = { ::/1, 8000::-8000::5 comment "x", ffff::/16 }; }
    set ports { type inet_service; flags interval; elements = { 1, 5-9, 10-20 comment "next", 65535 comment "last" }; }
    set named4 { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 1, 10.0.0.1 . 65535 comment "x" }; }
    set named6 { type ipv6_addr . inet_service; elements = { fd00::1 . 443 comment "x" }; }
    set pair4 { type ipv4_addr . ipv4_addr; elements = { 10.0.0.1 . 10.0.0.2 comment "x" }; }
    set pair6 { type ipv6_addr . ipv6_addr; elements = { fd00::1 . fd00::2 comment "x" }; }
    map verdicts4 { type ipv4_addr : verdict; elements = { 10.0.0.1 comment "x" : jump leaf, 10.0.0.2 : drop }; }
    map port-verdicts { type inet_service : verdict; flags interval; elements = { 80-81 : goto leaf, 65535 : return }; }
"#;

fn set(key: KeyType, interval: bool, elements: Vec<(Key, Element)>) -> Set {
    Set { kind: SetKind::Set, key, interval, comment: None, elements: elements.into_iter().collect() }
}

fn with(comment: &str) -> Element {
    Element { verdict: None, comment: Some(comment.into()) }
}

fn lead(verdict: Verdict, comment: Option<&str>) -> Element {
    Element { verdict: Some(verdict), comment: comment.map(Into::into) }
}

/// [`SETS`] in the model.
fn sets() -> BTreeMap<Name, Set> {
    use Family::{V4, V6};
    let ip = |text: &str| text.parse().unwrap();
    let none = Element::default;
    let leaf = || Name::new("leaf");
    let verdicts = vec![
        (Key::Address(ip("10.0.0.1")), lead(Verdict::Jump(leaf()), Some("x"))),
        (Key::Address(ip("10.0.0.2")), lead(Verdict::Drop, None)),
    ];
    let ports = vec![
        (Key::PortRange(80, 81), lead(Verdict::Goto(leaf()), None)),
        (Key::PortRange(65535, 65535), lead(Verdict::Return, None)),
    ];
    let port_set = vec![
        (Key::PortRange(1, 1), none()),
        (Key::PortRange(5, 9), none()),
        (Key::PortRange(10, 20), with("next")),
        (Key::PortRange(65535, 65535), with("last")),
    ];
    let ranges6 = vec![
        (Key::AddressRange(ip("::"), ip("7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")), none()),
        (Key::AddressRange(ip("8000::"), ip("8000::5")), with("x")),
        (Key::AddressRange(ip("ffff::"), [0xff; 16].into()), none()),
    ];
    let named4 =
        vec![(Key::AddressPort(ip("10.0.0.1"), 1), none()), (Key::AddressPort(ip("10.0.0.1"), 65535), with("x"))];
    let addresses4 = vec![(Key::Address(ip("0.0.0.0")), none()), (Key::Address(ip("255.255.255.255")), with("last"))];
    let addresses6 = vec![(Key::Address(ip("::")), none()), (Key::Address([0xff; 16].into()), none())];
    let names = vec![
        (Key::InterfaceName("cni0".to_owned()), none()),
        (Key::InterfaceName("veth0123456789a".to_owned()), none()),
    ];
    let all4 = vec![(Key::AddressRange(ip("0.0.0.0"), ip("255.255.255.255")), with("all"))];
    let map = |set: Set| Set { kind: SetKind::VerdictMap, ..set };
    [
        ("names", set(KeyType::InterfaceName, false, names)),
        ("addresses4", set(KeyType::Address(V4), false, addresses4)),
        ("addresses6", Set { comment: Some("in words".to_owned()), ..set(KeyType::Address(V6), false, addresses6) }),
        ("ranges4", set(KeyType::Address(V4), true, all4)),
        ("ranges6", set(KeyType::Address(V6), true, ranges6)),
        ("ports", set(KeyType::Port, true, port_set)),
        ("named4", set(KeyType::AddressPort(V4), false, named4)),
        ("named6", set(KeyType::AddressPort(V6), false, vec![(Key::AddressPort(ip("fd00::1"), 443), with("x"))])),
        (
            "pair4",
            set(KeyType::AddressPair(V4), false, vec![(Key::AddressPair(ip("10.0.0.1"), ip("10.0.0.2")), with("x"))]),
        ),
        (
            "pair6",
            set(KeyType::AddressPair(V6), false, vec![(Key::AddressPair(ip("fd00::1"), ip("fd00::2")), with("x"))]),
        ),
        ("verdicts4", map(set(KeyType::Address(V4), false, verdicts))),
        ("port-verdicts", map(set(KeyType::Port, true, ports))),
    ]
    .into_iter()
    .map(|(name, set)| (Name::new(name), set))
    .collect()
}

/// All of the above as one table, as nft text and in the model.
fn both() -> (String, Ruleset) {
    let mut text = format!("table inet palisade {{\n comment \"{}\"\n{SETS}", palisade_ruleset::model::TABLE_COMMENT);
    let mut ruleset = Ruleset { counters: [Name::new("seen")].into(), sets: sets(), chains: BTreeMap::new() };
    text.push_str("chain leaf { }\nchain every { comment \"in words\"; \n");
    let mut chain = Chain { hook: None, comment: Some("in words".to_owned()), rules: Vec::new() };
    for (words, expressions) in rules() {
        text.extend([words, " comment \"", words, "\"\n"]);
        chain.rules.push(Rule { expressions, comment: Some(words.to_owned()) });
    }
    text.push_str("}\n}\n");
    ruleset.chains.insert(Name::new("leaf"), Chain::default());
    ruleset.chains.insert(Name::new("every"), chain);
    (text, ruleset)
}

#[test]
fn every_construct_of_nft_is_read_as_what_it_means() {
    isolated(|| {
        let (text, expected) = both();
        load(&text);
        let found = Table::open(Ownership::Plain).unwrap().read().unwrap();
        assert_eq!(found.undecodable, BTreeMap::new());
        for (name, set) in &expected.sets {
            assert_eq!(found.ruleset.sets.get(name), Some(set), "{name}");
        }
        let rules = &found.ruleset.chains[&Name::new("every")].rules;
        for (found, expected) in rules.iter().zip(&expected.chains[&Name::new("every")].rules) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.ruleset, expected);
    });
}

#[test]
fn a_table_written_by_us_lists_as_one_loaded_by_nft() {
    let (text, model) = both();
    let theirs = isolated(|| {
        // nft lists chains in the order of creation; we create them by name.
        load(&text);
        list()
    });
    let ours = isolated(|| {
        Table::open(Ownership::Plain).unwrap().replace(&model).unwrap();
        list()
    });
    assert_eq!(sections(&ours), sections(&theirs));
}

#[test]
fn a_table_of_the_real_shape_lists_as_one_loaded_by_nft() {
    let (theirs, model) = isolated(|| {
        load(EVERY);
        let found = Table::open(Ownership::Plain).unwrap().read().unwrap();
        assert_eq!(found.undecodable, BTreeMap::new());
        (list(), found.ruleset)
    });
    let ours = isolated(|| {
        let mut table = Table::open(Ownership::Plain).unwrap();
        table.replace(&model).unwrap();
        assert_eq!(table.read().unwrap().ruleset, model);
        list()
    });
    // The comments of counters and of the table are not part of the model.
    let without = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("comment \"IPv4\"") && !line.starts_with("\tcomment "));
        sections(&lines.collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(without(&ours), without(&theirs));
}

#[test]
fn the_text_form_lists_as_the_netlink_form_does() {
    let real = isolated(|| {
        load(EVERY);
        Table::open(Ownership::Plain).unwrap().read().unwrap().ruleset
    });
    for model in [both().1, real] {
        let theirs = isolated(|| {
            load(&palisade_ruleset::text::ruleset(&model));
            list()
        });
        let ours = isolated(|| {
            Table::open(Ownership::Plain).unwrap().replace(&model).unwrap();
            list()
        });
        // Sets that many rules look up are created first.
        assert_eq!(sections(&ours), sections(&theirs));
    }
}

/// A listing split by object, since nft lists objects in the order of creation.
fn sections(listing: &str) -> Vec<String> {
    let mut sections: Vec<_> = listing.split("\n\n").map(|section| section.trim().to_owned()).collect();
    let first = sections.remove(0);
    let head = first.lines().take_while(|line| !line.starts_with("\tcounter") && !line.starts_with("\tset"));
    let head: Vec<_> = head.map(str::to_owned).collect();
    sections.push(first.lines().skip(head.len()).collect::<Vec<_>>().join("\n").trim().to_owned());
    for section in &mut sections {
        *section = section.trim_end_matches("\n}").to_owned();
    }
    sections.sort();
    sections.push(head.join("\n"));
    sections
}

#[test]
fn what_is_written_is_read_back() {
    isolated(|| {
        let table = std::cell::RefCell::new(Table::open(Ownership::Automatic).unwrap());
        let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
        runner
            .run(&(ruleset(), ruleset()), |(first, second)| {
                let mut table = table.borrow_mut();
                table.replace(&first).unwrap();
                let found = table.read().unwrap();
                proptest::prop_assert_eq!(&found.undecodable, &BTreeMap::new());
                proptest::prop_assert_eq!(&found.ruleset, &first);
                // And by difference: only the changes are written.
                let mut target = second.clone();
                target.counters.extend(first.counters.iter().cloned());
                let transaction = diff(&first, &target).unwrap().plan(&target);
                table.commit_transaction(&transaction).map_err(|error| {
                    proptest::test_runner::TestCaseError::fail(format!("{error:?}\n{transaction:#?}"))
                })?;
                proptest::prop_assert_eq!(&table.read().unwrap().ruleset, &target);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn comments_of_the_greatest_length_survive() {
    isolated(|| {
        let long = comment(128);
        let mut table = Table::open(Ownership::Automatic).unwrap();
        let rule = Rule { expressions: vec![Expression::Counter], comment: Some(long.clone()) };
        let chain = Chain { hook: None, comment: Some(long.clone()), rules: vec![rule] };
        let elements = [(Key::Address([10, 0, 0, 1].into()), with(&long))].into();
        let addresses = Set {
            kind: SetKind::Set,
            key: KeyType::Address(Family::V4),
            interval: false,
            comment: Some(long),
            elements,
        };
        let ruleset = Ruleset {
            counters: [Name::parse(&"c".repeat(255)).unwrap()].into(),
            sets: [(Name::parse(&"s".repeat(255)).unwrap(), addresses)].into(),
            chains: [(Name::parse(&"n".repeat(255)).unwrap(), chain)].into(),
        };
        table.replace(&ruleset).unwrap();
        assert_eq!(table.read().unwrap().ruleset, ruleset);
    });
}
