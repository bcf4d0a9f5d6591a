//! Generated pods and namespaces, most with missing, null or wrong fields: a watch and a manifest read the same object,
//! and refuse the same types.
//!
//! `PALISADE_CASES` sets their number.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use palisade_policy::input::LEGACY_ANNOTATION;

use super::*;
use crate::finding::Flaw;
use crate::node::Node;

/// Values that fit no field in particular.
fn junk() -> impl Strategy<Value = Value> {
    // No list: serde's JSON reads one as a structure.
    select(vec![json!(true), json!(0), json!(-1), json!(80.5), json!("a"), json!({}), json!({"a": null})])
}

/// Mostly a value of the strategy, sometimes null, rarely anything.
fn mostly(good: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![80 => good, 6 => Just(Value::Null), 1 => junk()].boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    mostly(select(values.to_vec()))
}

fn text(values: &[&str]) -> BoxedStrategy<Value> {
    one_of(&values.iter().map(|text| json!(text)).collect::<Vec<_>>())
}

fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    mostly(prop::collection::vec(item, 0..3).prop_map(Value::Array))
}

/// Any of these fields, and sometimes one that is not read.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    mostly(whole(fields))
}

/// Like [`object`], but always an object.
fn whole(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| prop_oneof![4 => value.prop_map(move |value| Some((name, value))), 1 => Just(None)])
        .collect();
    let other = prop_oneof![9 => Just(None), 1 => junk().prop_map(|value| Some(("uid", value)))];
    let object = (fields, other).prop_map(|(fields, other)| {
        let fields = fields.into_iter().chain([other]).flatten();
        Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    });
    object.boxed()
}

fn map(keys: &'static [&'static str], value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let pairs = prop::collection::vec((select(keys), value), 0..3);
    mostly(pairs.prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
}

fn metadata() -> BoxedStrategy<Value> {
    object(vec![
        ("name", text(&["web", "web", "web", ""])),
        ("namespace", text(&["shop", "shop", "shop", ""])),
        ("labels", map(&["app", "a.b/c"], text(&["web", "", "not valid"]))),
        ("annotations", map(&["a", LEGACY_ANNOTATION], text(&["", "{", r#"{"ingress":{"isolation":"DefaultDeny"}}"#]))),
        ("deletionTimestamp", text(&["2026-01-01T00:00:00Z"])),
        ("resourceVersion", text(&["7"])),
    ])
}

fn pod() -> BoxedStrategy<Value> {
    let port = object(vec![
        ("name", text(&["http", "dns", "", "Not Valid"])),
        ("containerPort", one_of(&[json!(80), json!(53), json!(65535), json!(0), json!(65536), json!(-1)])),
        ("protocol", text(&["TCP", "UDP", "SCTP", "", "tcp", "ICMP"])),
    ]);
    let container =
        || object(vec![("restartPolicy", text(&["Always", "OnFailure", ""])), ("ports", list(port.clone()))]);
    let address = || text(&["10.0.0.1", "10.0.0.2", "010.0.0.3", "fd00::1", "127.0.0.1", "", "what"]);
    let addresses = || list(object(vec![("ip", address())]));
    let condition = object(vec![
        ("type", text(&["Ready", "PodReadyToStartContainers"])),
        ("status", text(&["True", "False", "Unknown", ""])),
    ]);
    let spec = object(vec![
        ("nodeName", text(&["node-1", ""])),
        ("hostNetwork", one_of(&[json!(true), json!(false)])),
        ("containers", list(container())),
        ("initContainers", list(container())),
    ]);
    let status = object(vec![
        ("phase", text(&["Pending", "Running", "Succeeded", "Failed", "Unknown", "", "running"])),
        ("podIP", address()),
        ("podIPs", addresses()),
        ("hostIP", address()),
        ("hostIPs", addresses()),
        ("conditions", list(condition)),
    ]);
    whole(vec![("metadata", metadata()), ("spec", spec), ("status", status)])
}

fn namespace() -> BoxedStrategy<Value> {
    let status = object(vec![("phase", text(&["Active", "Terminating", ""]))]);
    whole(vec![("metadata", metadata()), ("status", status)])
}

/// The object that each of the two reads; none if a type is wrong.
#[expect(clippy::option_option, reason = "an object that is refused, and one that is read as nothing")]
fn both<S: Structure>(object: &Value) -> [Option<Option<Object>>; 2] {
    let watched = serde_json::from_str::<S>(&object.to_string()).ok();
    let watched = watched.map(|structure| Received::read(structure).map(|received| received.object));
    // A manifest, read as leniently as an object of a server.
    let mut decoder = Decoder::of_server();
    let written = decoder.manifest::<S>(&Node::from(object.clone()), &Path::Root).map(|decoded| decoded.object);
    let fits = decoder.errors.iter().all(|issue| issue.flaw != Flaw::WrongType);
    [watched, fits.then_some(written)]
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PALISADE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pod_is_the_same_in_a_watch_and_in_a_manifest(object in pod()) {
        let [watched, written] = both::<KubePod>(&object);
        prop_assert_eq!(watched, written, "{}", object);
    }

    #[test]
    fn a_namespace_is_the_same_in_a_watch_and_in_a_manifest(object in namespace()) {
        let [watched, written] = both::<KubeNamespace>(&object);
        prop_assert_eq!(watched, written, "{}", object);
    }
}
