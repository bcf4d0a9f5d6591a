//! The JSON form: what `nft -j -f` loads. The only module that uses the `nftables` crate.
//!
//! Sets and their elements are written as plain JSON: crate `nftables` 0.6 supports neither `verdict` as the type of a
//! map's values nor comments of sets. nft 1.0.6 reads no comments of tables, chains and sets in JSON.

use std::borrow::Cow;
use std::collections::HashSet;

use nftables::expr::{
    BinaryOperation, CT, CTDir, Expression as Expr, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression as Named,
    Payload, PayloadField, Prefix, Range,
};
use nftables::schema::{
    Chain as JsonChain, Counter as JsonCounter, NfListObject, NfObject, Nftables, Rule as JsonRule, Table,
};
use nftables::stmt::{AnonymousCounter, Counter, JumpTarget, Mangle, Match, Operator, Statement, VerdictMap};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use palisade_policy::input::Family;
use serde_json::{Value, json};

use crate::model::{
    Chain, CtStates, Element, Expression, Field, Hook, Key, L4, Load, PacketType, Rule, Ruleset, Set, SetKind, TABLE,
    Test, Verdict,
};
use crate::name::Name;
use crate::text::{in_order, spelled};

/// A document for `nft -j -f` that makes the table equal to this one, whatever it contained.
pub fn ruleset(ruleset: &Ruleset) -> Value {
    let table = || json!({ "table": { "family": "inet", "name": TABLE } });
    // `delete` fails if there is no table; the first object creates it if needed.
    let mut objects = vec![json!({ "add": table() }), json!({ "delete": table() })];
    let mut plain = vec![NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })];
    plain.extend(ruleset.counters.iter().map(counter));
    objects.extend(values(plain));
    // Chains before sets: elements of verdict maps refer to chains. nft 1.0.6 cannot add elements to an interval map
    // that the same document creates, so sets come with their elements.
    objects.extend(values(in_order(ruleset).map(|(name, found)| chain(name, found)).collect()));
    objects.extend(ruleset.sets.iter().map(|(name, set)| declaration(name, set)));
    let rules = in_order(ruleset).flat_map(|(name, chain)| chain.rules.iter().map(move |found| rule(name, found)));
    objects.extend(values(rules.collect()));
    json!({ "nftables": objects })
}

/// Each object as JSON, from the crate's types.
fn values(objects: Vec<NfListObject<'_>>) -> Vec<Value> {
    let objects: Vec<_> = objects.into_iter().map(NfObject::ListObject).collect();
    let document = serde_json::to_value(Nftables { objects: Cow::Owned(objects) });
    // The types hold only what JSON can express: strings, numbers, lists.
    let list = document.ok().and_then(|mut document| document.get_mut("nftables").map(Value::take));
    match list {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    }
}

fn counter(name: &Name) -> NfListObject<'_> {
    NfListObject::Counter(JsonCounter {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.as_str().into(),
        packets: Some(0),
        bytes: Some(0),
        ..JsonCounter::default()
    })
}

fn chain<'a>(name: &'a Name, chain: &Chain) -> NfListObject<'a> {
    let hook = chain.hook.map(|hook| match hook {
        Hook::Forward => NfHook::Forward,
        Hook::Input => NfHook::Input,
    });
    NfListObject::Chain(JsonChain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.as_str().into(),
        _type: hook.map(|_| NfChainType::Filter),
        prio: hook.map(|_| 0),
        policy: hook.map(|_| NfChainPolicy::Accept),
        hook,
        ..JsonChain::default()
    })
}

fn rule<'a>(chain: &'a Name, rule: &'a Rule) -> NfListObject<'a> {
    let statements: Vec<_> = spelled(&rule.expressions).map(|spelled| statement(spelled.0)).collect();
    NfListObject::Rule(JsonRule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.as_str().into(),
        expr: Cow::Owned(statements),
        comment: rule.comment.as_deref().map(Cow::from),
        ..JsonRule::default()
    })
}

fn statement(expression: &Expression) -> Statement<'_> {
    match expression {
        Expression::Match(load_of, test) => compare(*load_of, test),
        Expression::Lookup(loads, set) => {
            let fields = loads.iter().copied().map(load).collect();
            equals(Expr::Named(Named::Concat(fields)), reference(set))
        }
        Expression::Vmap(key, map) => Statement::VerdictMap(VerdictMap { key: load(*key), data: reference(map) }),
        Expression::Counter => {
            Statement::Counter(Counter::Anonymous(Some(AnonymousCounter { packets: Some(0), bytes: Some(0) })))
        }
        Expression::CountIn(name) => Statement::Counter(Counter::Named(name.as_str().into())),
        Expression::SetMark(bits) => {
            let kept = BinaryOperation::AND(load(Load::CtMark), Expr::Number(!bits.mask));
            let kept = Expr::BinaryOperation(Box::new(kept));
            let value = BinaryOperation::OR(vec![kept, Expr::Number(bits.value)]);
            Statement::Mangle(Mangle { key: load(Load::CtMark), value: Expr::BinaryOperation(Box::new(value)) })
        }
        Expression::Verdict(verdict) => match verdict {
            Verdict::Accept => Statement::Accept(None),
            Verdict::Drop => Statement::Drop(None),
            Verdict::Return => Statement::Return(None),
            Verdict::Jump(target) => Statement::Jump(JumpTarget { target: target.as_str().into() }),
            Verdict::Goto(target) => Statement::Goto(JumpTarget { target: target.as_str().into() }),
        },
    }
}

fn equals<'a>(left: Expr<'a>, right: Expr<'a>) -> Statement<'a> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn reference(set: &Name) -> Expr<'_> {
    Expr::String(format!("@{set}").into())
}

fn text<'a>(text: &(impl ToString + ?Sized)) -> Expr<'a> {
    Expr::String(text.to_string().into())
}

fn range<'a>(first: Expr<'a>, last: Expr<'a>) -> Expr<'a> {
    Expr::Range(Box::new(Range { range: [first, last] }))
}

fn compare(load_of: Load, test: &Test) -> Statement<'_> {
    let left = load(load_of);
    let right = match test {
        Test::Prefix(net) if net.prefix_len() == net.max_prefix_len() => text(&net.addr()),
        Test::Prefix(net) => {
            Expr::Named(Named::Prefix(Prefix { addr: Box::new(text(&net.addr())), len: u32::from(net.prefix_len()) }))
        }
        Test::AddressRange(first, last) => range(text(first), text(last)),
        Test::Range(first, last) if first == last => Expr::Number(u32::from(*first)),
        Test::Range(first, last) => range(Expr::Number(u32::from(*first)), Expr::Number(u32::from(*last))),
        Test::Family(Family::V4) => text("ipv4"),
        Test::Family(Family::V6) => text("ipv6"),
        Test::L4(L4::Transport(protocol)) => text(protocol.name()),
        Test::L4(L4::Icmp) => text("icmp"),
        Test::L4(L4::Icmpv6) => text("ipv6-icmp"),
        Test::PacketType(PacketType::Unicast) => text("unicast"),
        Test::PacketType(PacketType::Broadcast) => text("broadcast"),
        Test::PacketType(PacketType::Multicast) => text("multicast"),
        Test::In(set) => reference(set),
        Test::States(states) => return in_states(left, *states),
        Test::Mark(bits) => {
            let masked = BinaryOperation::AND(left, Expr::Number(bits.mask));
            return equals(Expr::BinaryOperation(Box::new(masked)), Expr::Number(bits.value));
        }
        Test::MidStream => {
            // fin, syn, rst and ack are the bits 1, 2, 4 and 16.
            let masked = BinaryOperation::AND(left, Expr::Number(0x17));
            return equals(Expr::BinaryOperation(Box::new(masked)), Expr::Number(0x10));
        }
    };
    equals(left, right)
}

fn in_states(left: Expr<'_>, states: CtStates) -> Statement<'_> {
    let all = [
        (states.invalid, "invalid"),
        (states.established, "established"),
        (states.related, "related"),
        (states.new, "new"),
        (states.untracked, "untracked"),
    ];
    let mut names: Vec<_> = all.iter().filter(|(is, _)| *is).map(|(_, name)| text(name)).collect();
    let right = if names.len() > 1 { Expr::List(names) } else { names.pop().unwrap_or_else(|| Expr::List(Vec::new())) };
    Statement::Match(Match { left, right, op: Operator::IN })
}

fn load<'a>(load: Load) -> Expr<'a> {
    let meta = |key| Named::Meta(Meta { key });
    let payload = |protocol: &'static str, field: &'static str| {
        Named::Payload(Payload::PayloadField(PayloadField { protocol: protocol.into(), field: field.into() }))
    };
    let ct = |dir, key: &'static str| Named::CT(CT { key: key.into(), family: None, dir });
    let (original, reply) = (Some(CTDir::Original), Some(CTDir::Reply));
    Expr::Named(match load {
        Load::Nfproto => meta(MetaKey::Nfproto),
        Load::L4Proto => meta(MetaKey::L4proto),
        Load::InputInterface => meta(MetaKey::Iifname),
        Load::PacketType => meta(MetaKey::Pkttype),
        Load::SourceType => Named::Fib(Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Saddr]) }),
        Load::DestinationType => Named::Fib(Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) }),
        Load::CtState => ct(None, "state"),
        Load::CtMark => ct(None, "mark"),
        Load::Client(Family::V4) => ct(original, "ip saddr"),
        Load::Client(Family::V6) => ct(original, "ip6 saddr"),
        Load::Server(Family::V4) => ct(reply, "ip saddr"),
        Load::Server(Family::V6) => ct(reply, "ip6 saddr"),
        Load::ServerPort => ct(reply, "proto-src"),
        Load::OriginalSourcePort => ct(original, "proto-src"),
        Load::OriginalDestinationPort => ct(original, "proto-dst"),
        Load::PacketSource(Family::V4) => payload("ip", "saddr"),
        Load::PacketSource(Family::V6) => payload("ip6", "saddr"),
        Load::PacketDestination(Family::V4) => payload("ip", "daddr"),
        Load::PacketDestination(Family::V6) => payload("ip6", "daddr"),
        Load::DestinationPort(protocol) => payload(protocol.name(), "dport"),
        Load::HopLimit => payload("ip6", "hoplimit"),
        Load::Icmpv6Type => payload("icmpv6", "type"),
        Load::TcpFlags => payload("tcp", "flags"),
    })
}

fn declaration(name: &Name, set: &Set) -> Value {
    let mut types: Vec<_> = set.key.fields().into_iter().map(field_type).collect();
    let key = if types.len() == 1 { types.pop().unwrap_or_default() } else { Value::Array(types) };
    let mut body = json!({ "family": "inet", "table": TABLE, "name": name.as_str(), "type": key });
    if let Value::Object(fields) = &mut body {
        if set.interval {
            fields.insert("flags".to_owned(), json!(["interval"]));
        }
        if set.kind == SetKind::VerdictMap {
            fields.insert("map".to_owned(), json!("verdict"));
        }
        if let Some(comment) = &set.comment {
            fields.insert("comment".to_owned(), json!(comment));
        }
        if !set.elements.is_empty() {
            let elements: Vec<_> = set.elements.iter().map(|(key, found)| element(key, found)).collect();
            fields.insert("elem".to_owned(), Value::Array(elements));
        }
    }
    match set.kind {
        SetKind::Set => json!({ "set": body }),
        SetKind::VerdictMap => json!({ "map": body }),
    }
}

fn field_type(field: Field) -> Value {
    Value::from(match field {
        Field::Address(Family::V4) => "ipv4_addr",
        Field::Address(Family::V6) => "ipv6_addr",
        Field::Port => "inet_service",
        Field::InterfaceName => "ifname",
    })
}

fn element(key: &Key, element: &Element) -> Value {
    let key = match &element.comment {
        Some(comment) => json!({ "elem": { "val": value(key), "comment": &**comment } }),
        None => value(key),
    };
    let verdict = element.verdict.as_ref().map(|verdict| match verdict {
        Verdict::Accept => json!({ "accept": null }),
        Verdict::Drop => json!({ "drop": null }),
        Verdict::Return => json!({ "return": null }),
        Verdict::Jump(target) => json!({ "jump": { "target": target.as_str() } }),
        Verdict::Goto(target) => json!({ "goto": { "target": target.as_str() } }),
    });
    match verdict {
        Some(verdict) => json!([key, verdict]),
        None => key,
    }
}

fn value(key: &Key) -> Value {
    match key {
        Key::Address(address) => json!(address),
        Key::AddressRange(first, last) if first == last => json!(first),
        Key::AddressRange(first, last) => {
            let range = palisade_policy::compile::AddressRange { first: *first, last: *last };
            match range.as_net() {
                Some(net) => json!({ "prefix": { "addr": net.addr(), "len": net.prefix_len() } }),
                None => json!({ "range": [first, last] }),
            }
        }
        Key::AddressPair(one, other) => json!({ "concat": [one, other] }),
        Key::AddressPort(address, port) => json!({ "concat": [address, port] }),
        Key::PortRange(first, last) if first == last => json!(first),
        Key::PortRange(first, last) => json!({ "range": [first, last] }),
        Key::InterfaceName(name) => json!(name),
    }
}
