//! The words of `to allow it: …`, followed as a person follows them who edits the manifests.

use std::net::IpAddr;

use serde_json::{Value, json};

/// The kinds of changes.
pub(super) const KINDS: &[&str] = &[
    "add a rule",
    "add an ipBlock",
    "add a port",
    "remove the ports",
    "remove an except",
    "give a namespaceSelector",
    "let a selector match",
];

/// Which kind of change the words are.
pub(super) fn kind(change: &str) -> &'static str {
    let heads = ["add a rule ", "add an ipBlock ", "add ", "remove spec.", "remove ", "give spec."];
    let position = heads.iter().position(|head| change.starts_with(head)).unwrap_or(heads.len());
    KINDS[position]
}

/// Edits the objects. Of two ways, it takes the one that edits the policy.
pub(super) fn follow(objects: &mut [Value], change: &str) {
    let change = change.split_once(", or let ").map_or(change, |(_, other)| other);
    let (change, rest) = change.split_once(" of policy ").unwrap();
    let (key, rest) = rest.split_once([' ', ':']).unwrap_or((rest, ""));
    let (namespace, name) = key.split_once('/').unwrap();
    let is_it = |object: &&mut Value| {
        let of = &object["metadata"];
        object["kind"] == "NetworkPolicy" && of["namespace"] == namespace && of["name"] == name
    };
    let policy = objects.iter_mut().find(is_it).unwrap();
    if let Some(new) = change.strip_prefix("add ") {
        let (new, path) = new.split_once(" to spec.").unwrap();
        let list = if path.starts_with("ingress") { "from" } else { "to" };
        let new = match (new.strip_prefix("a rule with "), new.strip_prefix("an ipBlock with ")) {
            (Some(terms), _) => rule(list, terms),
            (_, Some(address)) => block(address),
            _ => port(new),
        };
        at(policy, &format!("spec.{path}")).as_array_mut().unwrap().push(new);
    } else if let Some(path) = change.strip_prefix("remove spec.") {
        let (rule, ports) = path.rsplit_once('.').unwrap();
        at(policy, &format!("spec.{rule}")).as_object_mut().unwrap().remove(ports).unwrap();
    } else if let Some((except, path)) = change.strip_prefix("remove ").and_then(|rest| rest.split_once(" from ")) {
        at(policy, path).as_array_mut().unwrap().retain(|other| other != except);
    } else if let Some(path) = change.strip_prefix("give ") {
        let namespace = rest.strip_prefix("a namespaceSelector that matches namespace ").unwrap();
        at(policy, path)["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    } else {
        relax(at(policy, change), rest.strip_prefix("match ").unwrap());
    }
}

/// The field at a path such as `spec.ingress[0].from`.
fn at<'a>(policy: &'a mut Value, path: &str) -> &'a mut Value {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    policy.pointer_mut(&pointer).unwrap_or_else(|| panic!("there is no {path}"))
}

/// A rule with a peer and perhaps a port: `podSelector app=web and TCP 80`.
fn rule(list: &str, terms: &str) -> Value {
    let (peer, port) = match terms.split_once(" and ") {
        Some((peer, new)) => (peer, Some(port(new))),
        None => (terms, None),
    };
    let mut fields = serde_json::Map::new();
    let words: Vec<_> = peer.split(' ').collect();
    for pair in words.chunks(2) {
        let [field, value] = pair else { panic!("{peer}") };
        let value = if *field == "ipBlock" { json!({ "cidr": value }) } else { selector(value) };
        fields.insert((*field).to_owned(), value);
    }
    match port {
        Some(port) => json!({ list: [fields], "ports": [port] }),
        None => json!({ list: [fields] }),
    }
}

/// `app=web,tier=front`; `*` for everything.
fn selector(text: &str) -> Value {
    let labels = text.split(',').filter(|label| *label != "*").map(|label| label.split_once('=').unwrap());
    let labels: serde_json::Map<_, _> = labels.map(|(key, value)| (key.to_owned(), json!(value))).collect();
    json!({ "matchLabels": labels })
}

/// `TCP 80`.
fn port(text: &str) -> Value {
    let (protocol, number) = text.split_once(' ').unwrap();
    json!({ "protocol": protocol, "port": number.parse::<u16>().unwrap() })
}

fn block(address: &str) -> Value {
    let bits = if address.parse::<IpAddr>().unwrap().is_ipv4() { 32 } else { 128 };
    json!({ "ipBlock": { "cidr": format!("{address}/{bits}") } })
}

/// Removes from a selector what `app=web` or `no label app` does not meet.
fn relax(selector: &mut Value, label: &str) {
    let (key, value) = match label.strip_prefix("no label ") {
        Some(key) => (key, None),
        None => label.split_once('=').map(|(key, value)| (key, Some(value))).unwrap(),
    };
    if let Some(labels) = selector["matchLabels"].as_object_mut() {
        labels.retain(|other, wanted| other != key || value.is_some_and(|value| wanted == value));
    }
    let Some(expressions) = selector["matchExpressions"].as_array_mut() else { return };
    expressions.retain(|expression| {
        let is_listed = |value: &str| expression["values"].as_array().unwrap().iter().any(|other| other == value);
        let is_met = match expression["operator"].as_str().unwrap() {
            "In" => value.is_some_and(is_listed),
            "NotIn" => !value.is_some_and(is_listed),
            "Exists" => value.is_some(),
            _ => value.is_none(),
        };
        expression["key"] != key || is_met
    });
}
