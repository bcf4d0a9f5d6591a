//! Random rulesets. Objects have fixed names, types and comments, so that two rulesets differ only in what can be
//! changed in place; which objects exist, and their contents, are random.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use palisade_policy::input::{Family, Protocol};
use palisade_ruleset::model::{
    Chain, CtStates, Element, Expression, Hook, Key, KeyType, L4, Load, MarkBits, PacketType, Rule, Ruleset, Set,
    SetKind, Test, Verdict,
};
use palisade_ruleset::name::Name;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

/// A comment of a number of bytes.
pub(crate) fn comment(bytes: usize) -> String {
    "comment ".chars().cycle().take(bytes).collect()
}

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => prop_oneof![
            1 => Just(IpAddr::from([0; 4])),
            1 => Just(IpAddr::from([0xff; 4])),
            4 => (0..8_u8).prop_map(|last| IpAddr::from([10, 0, 0, last])),
            4 => any::<[u8; 4]>().prop_map(IpAddr::from),
        ]
        .boxed(),
        Family::V6 => prop_oneof![
            1 => Just(IpAddr::from([0; 16])),
            1 => Just(IpAddr::from([0xff; 16])),
            4 => (0..8_u16).prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
            4 => any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
        .boxed(),
    }
}

fn port() -> BoxedStrategy<u16> {
    prop_oneof![Just(0_u16), Just(1), Just(80), Just(65534), Just(65535), any::<u16>()].boxed()
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn words() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a-zA-Z0-9:=,/\\[\\] +-]{1,40}")
}

/// The leaf chains, the only targets of jumps.
const LEAVES: [&str; 2] = ["leaf/a", "leaf/b"];

fn verdict() -> impl Strategy<Value = Verdict> {
    let leaf = || proptest::sample::select(&LEAVES[..]).prop_map(Name::new);
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        leaf().prop_map(Verdict::Jump),
        leaf().prop_map(Verdict::Goto),
    ]
}

/// The sets and maps: name, kind, key, interval.
fn shapes() -> Vec<(String, SetKind, KeyType, bool)> {
    let mut shapes = vec![
        ("ports".to_owned(), SetKind::Set, KeyType::Port, true),
        ("names".to_owned(), SetKind::Set, KeyType::InterfaceName, false),
        ("map/ports".to_owned(), SetKind::VerdictMap, KeyType::Port, true),
    ];
    for family in Family::ALL {
        let digit = family.digit();
        shapes.push((format!("addresses/{digit}"), SetKind::Set, KeyType::Address(family), false));
        shapes.push((format!("ranges/{digit}"), SetKind::Set, KeyType::Address(family), true));
        shapes.push((format!("pairs/{digit}"), SetKind::Set, KeyType::AddressPair(family), false));
        shapes.push((format!("named/{digit}"), SetKind::Set, KeyType::AddressPort(family), false));
        shapes.push((format!("map/addresses/{digit}"), SetKind::VerdictMap, KeyType::Address(family), false));
        shapes.push((format!("map/ranges/{digit}"), SetKind::VerdictMap, KeyType::Address(family), true));
    }
    shapes
}

fn keys(key: KeyType, interval: bool) -> BoxedStrategy<Vec<Key>> {
    fn ranges<T: Copy>(points: impl IntoIterator<Item = T>, range: impl Fn(T, T) -> Key) -> Vec<Key> {
        let points: Vec<_> = points.into_iter().collect();
        points.chunks_exact(2).map(|ends| range(ends[0], ends[1])).collect()
    }
    match key {
        // Pairs of different points; each set that starts with 0 or ends with the last value has a range of one value.
        KeyType::Address(family) if interval => (btree_set(address(family), 0..12), any::<bool>())
            .prop_map(|(points, single)| {
                if single {
                    points.into_iter().map(|point| Key::AddressRange(point, point)).collect()
                } else {
                    ranges(points, Key::AddressRange)
                }
            })
            .boxed(),
        KeyType::Port => (btree_set(port(), 0..12), any::<bool>())
            .prop_map(|(points, single)| {
                if single {
                    points.into_iter().map(|point| Key::PortRange(point, point)).collect()
                } else {
                    ranges(points, Key::PortRange)
                }
            })
            .boxed(),
        KeyType::Address(family) => vec(address(family).prop_map(Key::Address), 0..8).boxed(),
        KeyType::AddressPair(family) => {
            vec((address(family), address(family)).prop_map(|(a, b)| Key::AddressPair(a, b)), 0..8).boxed()
        }
        KeyType::AddressPort(family) => {
            vec((address(family), port()).prop_map(|(a, port)| Key::AddressPort(a, port)), 0..8).boxed()
        }
        KeyType::InterfaceName => vec("[a-z][a-z0-9.-]{0,14}".prop_map(Key::InterfaceName), 0..4).boxed(),
    }
}

fn set(kind: SetKind, key: KeyType, interval: bool) -> BoxedStrategy<Set> {
    let verdict = match kind {
        SetKind::Set => Just(None).boxed(),
        SetKind::VerdictMap => verdict().prop_map(Some).boxed(),
    };
    let elements = keys(key, interval).prop_flat_map(move |keys| {
        let elements = (verdict.clone(), words())
            .prop_map(|(verdict, comment)| Element { verdict, comment: comment.map(Into::into) });
        (Just(keys.clone()), vec(elements, keys.len()))
    });
    elements
        .prop_map(move |(keys, elements)| {
            let comment = interval.then(|| "ranges".to_owned());
            Set { kind, key, interval, comment, elements: keys.into_iter().zip(elements).collect() }
        })
        .boxed()
}

fn address_test(load: fn(Family) -> Load) -> BoxedStrategy<Expression> {
    family()
        .prop_flat_map(move |family| {
            let digit = family.digit();
            let prefix = (address(family), 0..=128_u8).prop_map(move |(address, bits)| {
                let bits = bits.min(if family == Family::V4 { 32 } else { 128 });
                Test::Prefix(IpNet::new(address, bits).expect("a length that the family has").trunc())
            });
            let range = (address(family), address(family)).prop_map(|(a, b)| Test::AddressRange(a.min(b), a.max(b)));
            let set = prop_oneof![Just("addresses"), Just("ranges")]
                .prop_map(move |kind| Test::In(Name::new(&format!("{kind}/{digit}"))));
            (Just(load(family)), prop_oneof![prefix, range, set])
        })
        .prop_map(|(load, test)| Expression::Match(load, test))
        .boxed()
}

fn port_test() -> BoxedStrategy<Expression> {
    let load =
        proptest::sample::select(vec![Load::ServerPort, Load::OriginalSourcePort, Load::OriginalDestinationPort]);
    let range = (port(), port()).prop_map(|(a, b)| Test::Range(a.min(b), a.max(b)));
    (load, prop_oneof![range, Just(Test::In(Name::new("ports")))])
        .prop_map(|(load, test)| Expression::Match(load, test))
        .boxed()
}

fn other_test() -> BoxedStrategy<Expression> {
    let l4 = proptest::sample::select(vec![
        L4::Transport(Protocol::Tcp),
        L4::Transport(Protocol::Udp),
        L4::Transport(Protocol::Sctp),
        L4::Icmp,
        L4::Icmpv6,
    ]);
    let kind = prop_oneof![Just(PacketType::Unicast), Just(PacketType::Broadcast), Just(PacketType::Multicast)];
    let states = (1..32_u8).prop_map(|bits| CtStates {
        invalid: bits & 1 != 0,
        established: bits & 2 != 0,
        related: bits & 4 != 0,
        new: bits & 8 != 0,
        untracked: bits & 16 != 0,
    });
    let byte = || (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Test::Range(a.min(b).into(), a.max(b).into()));
    prop_oneof![
        family().prop_map(|family| Expression::Match(Load::Nfproto, Test::Family(family))),
        l4.prop_map(|l4| Expression::Match(Load::L4Proto, Test::L4(l4))),
        Just(Expression::Match(Load::InputInterface, Test::In(Name::new("names")))),
        kind.clone().prop_map(|kind| Expression::Match(Load::PacketType, Test::PacketType(kind))),
        kind.clone().prop_map(|kind| Expression::Match(Load::SourceType, Test::PacketType(kind))),
        kind.prop_map(|kind| Expression::Match(Load::DestinationType, Test::PacketType(kind))),
        mark_bits().prop_map(|bits| Expression::Match(Load::CtMark, Test::Mark(bits))),
        mark_bits().prop_map(Expression::SetMark),
        states.prop_map(|states| Expression::Match(Load::CtState, Test::States(states))),
        byte().prop_map(|test| Expression::Match(Load::HopLimit, test)),
        byte().prop_map(|test| Expression::Match(Load::Icmpv6Type, test)),
        Just(Expression::Match(Load::TcpFlags, Test::MidStream)),
    ]
    .boxed()
}

/// A run of bits, not all, and a value that is not 0.
fn mark_bits() -> BoxedStrategy<MarkBits> {
    (1..32_u32, any::<prop::sample::Index>(), any::<u32>())
        .prop_map(|(bits, shift, number)| {
            let shift = u32::try_from(shift.index(33 - usize::try_from(bits).unwrap())).unwrap();
            let mask = (u32::MAX >> (32 - bits)) << shift;
            let value = (number << shift) & mask;
            MarkBits { mask, value: if value == 0 { 1 << shift } else { value } }
        })
        .boxed()
}

fn lookup() -> BoxedStrategy<Expression> {
    family()
        .prop_flat_map(|family| {
            let digit = family.digit();
            let pairs = Name::new(&format!("pairs/{digit}"));
            let named = Name::new(&format!("named/{digit}"));
            let packet = vec![Load::PacketSource(family), Load::PacketDestination(family)];
            prop_oneof![
                Just(Expression::Lookup(vec![Load::Client(family), Load::Server(family)], pairs.clone())),
                Just(Expression::Lookup(packet, pairs)),
                Just(Expression::Lookup(vec![Load::Server(family), Load::ServerPort], named)),
            ]
        })
        .boxed()
}

fn vmap() -> BoxedStrategy<Expression> {
    let address = family().prop_flat_map(|family| {
        let digit = family.digit();
        let load = proptest::sample::select(vec![
            Load::Client(family),
            Load::Server(family),
            Load::PacketSource(family),
            Load::PacketDestination(family),
        ]);
        let map = proptest::sample::select(vec!["addresses", "ranges"]);
        (load, map).prop_map(move |(load, map)| Expression::Vmap(load, Name::new(&format!("map/{map}/{digit}"))))
    });
    prop_oneof![address, Just(Expression::Vmap(Load::ServerPort, Name::new("map/ports")))].boxed()
}

fn test() -> BoxedStrategy<Expression> {
    prop_oneof![
        address_test(Load::Client),
        address_test(Load::Server),
        address_test(Load::PacketSource),
        address_test(Load::PacketDestination),
        port_test(),
        other_test(),
        lookup(),
    ]
    .boxed()
}

/// A port of the packet itself, after the test for its protocol.
fn packet_port() -> BoxedStrategy<Vec<Expression>> {
    let range = (port(), port()).prop_map(|(a, b)| Test::Range(a.min(b), a.max(b)));
    (proptest::sample::select(Protocol::ALL.to_vec()), range)
        .prop_map(|(protocol, range)| {
            let is_protocol = Expression::Match(Load::L4Proto, Test::L4(L4::Transport(protocol)));
            vec![is_protocol, Expression::Match(Load::DestinationPort(protocol), range)]
        })
        .boxed()
}

fn rule(leaf: bool) -> BoxedStrategy<Rule> {
    let plain = prop_oneof![Just(Verdict::Accept), Just(Verdict::Drop), Just(Verdict::Return)];
    let verdict = if leaf { plain.boxed() } else { verdict().boxed() };
    let count = prop_oneof![Just(Expression::Counter), Just(Expression::CountIn(Name::new("seen")))];
    let last = if leaf {
        verdict.prop_map(Expression::Verdict).boxed()
    } else {
        prop_oneof![verdict.prop_map(Expression::Verdict), vmap()].boxed()
    };
    let tests = prop_oneof![6 => test().prop_map(|test| vec![test]), 1 => packet_port()];
    (vec(tests, 0..4), proptest::option::of(count), last, words())
        .prop_map(|(tests, count, last, comment)| {
            let mut expressions = tests.concat();
            expressions.extend(count);
            expressions.push(last);
            Rule { expressions, comment }
        })
        .boxed()
}

fn chain(hook: Option<Hook>, leaf: bool) -> BoxedStrategy<Chain> {
    let comment = hook.map(|_| "hook".to_owned());
    vec(rule(leaf), 0..6).prop_map(move |rules| Chain { hook, comment: comment.clone(), rules }).boxed()
}

/// A ruleset that the kernel accepts: every named object exists, and jumps lead only to leaves.
pub(crate) fn ruleset() -> BoxedStrategy<Ruleset> {
    let sets: Vec<_> = shapes()
        .into_iter()
        .map(|(name, kind, key, interval)| (Just(Name::new(&name)), set(kind, key, interval)))
        .collect();
    let leaves: Vec<_> = LEAVES.iter().map(|name| (Just(Name::new(name)), chain(None, true))).collect();
    let hooks: Vec<_> = [("forward", Hook::Forward), ("input", Hook::Input)]
        .into_iter()
        .map(|(name, hook)| (Just(Name::new(name)), chain(Some(hook), false)))
        .collect();
    let others = btree_map("chain/[a-h]".prop_map(|name| Name::new(&name)), chain(None, false), 0..4);
    let counters = btree_set("count/[a-d]".prop_map(|name| Name::new(&name)), 0..3);
    (sets, leaves, hooks, others, counters)
        .prop_map(|(sets, leaves, hooks, mut chains, mut counters)| {
            chains.extend(leaves.into_iter().chain(hooks));
            counters.insert(Name::new("seen"));
            Ruleset { counters, sets: sets.into_iter().collect::<BTreeMap<_, _>>(), chains }
        })
        .boxed()
}
