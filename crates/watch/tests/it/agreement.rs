//! Generated NetworkPolicies, most of them with a mistake: the decoder must accept exactly those that a real API server
//! accepts, and must apply the defaults that the server writes.
//!
//! `PALISADE_CASES` sets the number of cases.
//!
//! Seen to fail when: unknown fields pass; a peer without terms passes; blocks with host bits pass without a warning;
//! `endPort` is accepted without `port`; `In` needs no values or `Exists` accepts some; label values are not checked;
//! UDP is the default protocol; `policyTypes` does not default to `Egress` with egress rules.

use palisade_testkit::apiserver::{ApiServer, Error};
use palisade_watch::{Flaw, ManifestErrors, Objects, read_manifests};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Value, json};

const PATH: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies?dryRun=All&fieldValidation=Strict";

/// Values of any type.
fn junk() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(80),
        json!(-1),
        json!(65536),
        json!(80.5),
        json!(4_294_967_376_i64),
        json!(""),
        json!("a"),
        json!("80"),
        json!("In"),
        json!("tcp"),
        json!("Ingress"),
        json!([]),
        json!([null]),
        json!(["a"]),
        json!({}),
        json!({"a": "b"}),
        json!({"podSelector": {}}),
        json!([{}]),
    ])
}

/// Usually a value of the strategy, sometimes any value.
fn mostly<S: Strategy<Value = Value> + 'static>(good: S) -> BoxedStrategy<Value> {
    prop_oneof![40 => good, 1 => junk()].boxed()
}

fn one_of(values: &[&str]) -> BoxedStrategy<Value> {
    mostly(select(values.iter().map(|text| json!(text)).collect::<Vec<_>>()))
}

fn list(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    mostly(prop::collection::vec(item, 0..=most).prop_map(Value::Array))
}

/// An object with some of these fields, and sometimes one of another kind of object.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| prop_oneof![3 => value.prop_map(move |value| Some((name, value))), 2 => Just(None)])
        .collect();
    let stray = prop_oneof![
        60 => Just(None),
        1 => (select(vec!["from", "to", "ports", "port", "podSelector", "matchLabel", "cidr", "Cidr", "status", ""]), junk()).prop_map(Some),
    ];
    mostly((fields, stray).prop_map(|(fields, stray)| {
        let fields = fields.into_iter().chain([stray]).flatten();
        Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    }))
}

fn label_map() -> BoxedStrategy<Value> {
    let key = select(vec![
        "app",
        "a.b/c",
        "kubernetes.io/metadata.name",
        "A_-.9",
        "-a",
        "a/",
        "/a",
        "a/b/c",
        "A.b/c",
        "",
        "a b",
    ]);
    let key = prop_oneof![9 => select(vec!["app", "tier", "a.b/c"]), 1 => key];
    let pairs = prop::collection::vec((key, label_value()), 0..3);
    mostly(
        pairs.prop_map(|pairs| Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
    )
}

fn label_value() -> BoxedStrategy<Value> {
    prop_oneof![
        9 => one_of(&["web", "", "1.10", "A-b_c.d"]),
        1 => one_of(&["-", "a b", "a/b", ".a", "\u{e9}", "a123456789a123456789a123456789a123456789a123456789a123456789a123"]),
    ]
    .boxed()
}

fn selector() -> BoxedStrategy<Value> {
    let requirement = object(vec![
        ("key", prop_oneof![9 => one_of(&["app", "a.b/c"]), 1 => one_of(&["", "a b", "-a"])].boxed()),
        (
            "operator",
            prop_oneof![9 => one_of(&["In", "NotIn", "Exists", "DoesNotExist"]), 1 => one_of(&["in", "Gt", "Equals"])]
                .boxed(),
        ),
        ("values", list(label_value(), 2)),
    ]);
    object(vec![("matchLabels", label_map()), ("matchExpressions", list(requirement, 2))])
}

fn block() -> BoxedStrategy<Value> {
    let good = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "0.0.0.0/0",
        "::/0",
        "2001:db8::/32",
        "2001:DB8:0::/48",
        "fd00::1/128",
    ];
    let odd = [
        "",
        "10.0.0.0",
        "10.0.0.1/8",
        "010.0.0.0/8",
        "10.0.0.0/08",
        "10.0.0.0/33",
        "::ffff:10.0.0.0/104",
        "::ffff:0.0.0.0/80",
        "::FFFF:10.1.0.0/112",
        "2001:db8::1/32",
        "2001:00db8::/32",
        "64:ff9b::10.0.0.1/128",
        "64:ff9b::010.0.0.1/128",
        "fe80::1%eth0/128",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        " 10.0.0.0/8",
        "10.0.0/8",
        "1.2.3.4.5/8",
        "::1::/64",
        "/8",
        "::/0/0",
        "10.0.0.0/ 8",
        "256.0.0.0/8",
        "::10.0.0.0/128",
        "1:2:3:4:5:6:7:8:9/64",
        "0:0:0:0:0:ffff:0a00:0/104",
        "::ffff:1.2.3.4/128",
    ];
    prop_oneof![3 => one_of(&good), 1 => one_of(&odd)].boxed()
}

fn peer() -> BoxedStrategy<Value> {
    let address = object(vec![("cidr", block()), ("except", list(block(), 2))]);
    let selectors = object(vec![("podSelector", selector()), ("namespaceSelector", selector())]);
    let block = address.clone().prop_map(|block| json!({"ipBlock": block}));
    let any = object(vec![("podSelector", selector()), ("namespaceSelector", selector()), ("ipBlock", address)]);
    prop_oneof![3 => selectors, 3 => block, 1 => any].boxed()
}

fn port() -> BoxedStrategy<Value> {
    let number = select(vec![1, 79, 80, 81, 65535, 0, -1, 65536, 2_147_483_647]).prop_map(|number| json!(number));
    let name = one_of(&["http", "serve-80-tcp", "80", "HTTP", "a--b", "-a", "", "sixteen-letters1", "8080-8090", "a"]);
    object(vec![
        ("port", prop_oneof![mostly(number.clone()), name].boxed()),
        ("endPort", mostly(number)),
        ("protocol", prop_oneof![9 => one_of(&["TCP", "UDP", "SCTP"]), 1 => one_of(&["tcp", "ICMP", ""])].boxed()),
    ])
}

fn policy() -> BoxedStrategy<Value> {
    let rule = |peers: &'static str| object(vec![(peers, list(peer(), 2)), ("ports", list(port(), 2))]);
    let types = prop_oneof![9 => one_of(&["Ingress", "Egress"]), 1 => one_of(&["ingress", "Both", ""])];
    let spec = object(vec![
        ("podSelector", selector()),
        ("policyTypes", list(types.boxed(), 3)),
        ("ingress", list(rule("from"), 2)),
        ("egress", list(rule("to"), 2)),
    ]);
    let metadata = object(vec![
        ("labels", label_map()),
        ("namespace", select(vec![json!("default"), json!(""), json!(null), json!(1), json!({})]).boxed()),
    ]);
    let name = prop_oneof![20 => one_of(&["web", "a.b-c", "1"]), 1 => one_of(&["", "Web", "a_b", "-a", "a..b"])];
    (name, metadata, spec)
        .prop_map(|(name, mut metadata, spec)| {
            if let Value::Object(fields) = &mut metadata {
                fields.insert("name".to_owned(), name);
            }
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
        })
        .boxed()
}

fn read(object: &Value) -> Result<Objects, ManifestErrors> {
    let path = std::env::temp_dir().join(format!("palisade-agreement-{}.json", std::process::id()));
    std::fs::write(&path, object.to_string()).unwrap();
    let read = read_manifests(std::slice::from_ref(&path));
    std::fs::remove_file(&path).unwrap();
    read
}

/// Removes `status`, where the decoder differs on purpose: it warns, and the server refuses.
fn without_status(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("status");
    object
}

#[test]
fn the_decoder_takes_what_the_server_takes_and_reads_it_as_the_server_does() {
    let api = ApiServer::shared();
    let cases = std::env::var("PALISADE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let (mut taken, mut refused) = (0, 0);
    let counts = std::cell::RefCell::new((&mut taken, &mut refused));
    let result = runner.run(&policy(), |object| {
        let object = without_status(&object);
        let here = read(&object);
        match (api.request("POST", PATH, Some(&object)), here) {
            (Ok(defaulted), Ok(read_here)) => {
                *counts.borrow_mut().0 += 1;
                let read_there = read(&defaulted).map_err(|errors| TestCaseError::fail(errors.to_string()))?;
                prop_assert_eq!(read_here.policies, read_there.policies);
            }
            (Err(Error::Refused { .. }), Err(_)) => *counts.borrow_mut().1 += 1,
            // Earlier servers accept these blocks, so the decoder does too.
            (Err(Error::Refused { .. }), Ok(here)) if here.warnings.iter().any(|w| w.flaw == Flaw::LegacyBlock) => {
                *counts.borrow_mut().1 += 1;
            }
            (Ok(_), Err(errors)) => return Err(TestCaseError::fail(format!("refused here only: {errors}"))),
            (Err(error), _) => return Err(TestCaseError::fail(format!("refused by the server only: {error}"))),
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(taken > cases / 10 && refused > cases / 10, "one-sided: {taken} taken, {refused} refused");
}
