//! Objects as manifests that are read as the same objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_policy::input::{
    Change, LabelSelector, METADATA_NAME, Namespace, NamespaceScope, NamespacedName, Object, Operator, Peer, Peers,
    Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule, State,
};
use serde_json::{Map, Value, json};

/// Everything as one file of YAML documents, for people and for `palisade … -f`.
///
/// A comment says what manifests cannot express: policies that are in force although their source has dropped them.
pub fn manifests(state: &State) -> String {
    let objects = objects(state).map(|object| document(&object));
    let tombstones = state.tombstones.iter().map(|key| format!("# gone from the source, still in force: {key}\n"));
    let departing = state.departing.iter().map(|name| format!("# namespace gone before its pods: {name}\n"));
    objects.chain(tombstones).chain(departing).collect()
}

/// Everything as single objects: first the namespaces, then the pods, then the policies.
pub fn objects(state: &State) -> impl Iterator<Item = Value> {
    let namespaces = state.namespaces.values().map(namespace);
    namespaces.chain(state.every_pod().map(pod)).chain(state.policies.values().map(policy))
}

/// A single object.
pub fn object(of: &Object) -> Value {
    match of {
        Object::Namespace(one) => namespace(one),
        Object::Pod(one) => pod(one),
        Object::Policy(one) => policy(one),
    }
}

/// One event, as a comment with its kind and objects.
pub fn change(change: &Change) -> String {
    let (title, objects): (String, Vec<Value>) = match change {
        Change::Pod(one) => (format!("pod {}", one.key), vec![pod(one)]),
        Change::PodGone(key) => (format!("pod {key} gone"), Vec::new()),
        Change::Namespace(one) => (format!("namespace {}", one.name), vec![namespace(one)]),
        Change::NamespaceGone(name) => (format!("namespace {name} gone"), Vec::new()),
        Change::Policy(one) => (format!("policy {}", one.key), vec![policy(one)]),
        Change::PolicyGone(key) => (format!("policy {key} gone"), Vec::new()),
        Change::Pods(all) => ("list of pods".to_owned(), all.iter().map(pod).collect()),
        Change::Namespaces(all) => ("list of namespaces".to_owned(), all.iter().map(namespace).collect()),
        Change::Policies(all) => ("list of policies".to_owned(), all.iter().map(policy).collect()),
    };
    std::iter::once(format!("### {title}\n")).chain(objects.iter().map(document)).collect()
}

fn namespace(namespace: &Namespace) -> Value {
    let labels = namespace.labels.iter().filter(|(key, _)| *key != METADATA_NAME);
    let labels: BTreeMap<_, _> = labels.collect();
    let metadata = without_empty(json!({
        "name": &*namespace.name,
        "labels": labels,
        "deletionTimestamp": deletion(namespace.terminating),
    }));
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

fn pod(pod: &Pod) -> Value {
    let ports = pod
        .ports
        .iter()
        .map(|port| json!({"name": &*port.name, "containerPort": port.port, "protocol": port.protocol.to_string()}));
    // A container may not use a port name twice; different containers may.
    let containers: Vec<_> =
        ports.enumerate().map(|(n, port)| json!({"name": format!("c{n}"), "ports": [port]})).collect();
    let phase = match pod.phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Unknown => "Unknown",
    };
    let list = |addresses: &[IpAddr]| addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect::<Vec<_>>();
    let addresses: Vec<_> = pod.addresses.iter().collect();
    let spec = without_empty(json!({
        "nodeName": pod.node.as_deref(),
        "hostNetwork": pod.host_network.then_some(true),
        "containers": containers,
    }));
    let status = without_empty(json!({
        "phase": phase,
        "podIP": addresses.first().map(ToString::to_string),
        "podIPs": list(&addresses),
        "hostIP": pod.host_addresses.first().map(ToString::to_string),
        "hostIPs": list(&pod.host_addresses),
        "conditions": pod.awaits_network.then(|| json!([{"type": "PodReadyToStartContainers", "status": "False"}])),
    }));
    let mut metadata = metadata(&pod.key);
    metadata.insert("labels".to_owned(), json!(*pod.labels));
    metadata.insert("deletionTimestamp".to_owned(), deletion(pod.terminating));
    let metadata = without_empty(Value::Object(metadata));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
}

fn policy(policy: &Policy) -> Value {
    let types = [(policy.isolates.ingress, "Ingress"), (policy.isolates.egress, "Egress")];
    let types: Vec<_> = types.into_iter().filter_map(|(is_on, name)| is_on.then_some(name)).collect();
    let rules = |rules: &[Rule], peers: &str| rules.iter().map(|one| rule(one, peers)).collect::<Vec<_>>();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(&policy.key),
        "spec": {
            "podSelector": selector(&policy.pod_selector),
            "policyTypes": types,
            "ingress": rules(&policy.ingress, "from"),
            "egress": rules(&policy.egress, "to"),
        },
    })
}

fn rule(rule: &Rule, peers: &str) -> Value {
    let mut fields = Map::new();
    if let Peers::Of(list) = &rule.peers {
        fields.insert(peers.to_owned(), list.iter().map(peer).collect());
    }
    if let Ports::Of(list) = &rule.ports {
        fields.insert("ports".to_owned(), list.iter().map(port).collect());
    }
    Value::Object(fields)
}

fn peer(peer: &Peer) -> Value {
    match peer {
        Peer::Pods { namespaces: NamespaceScope::Own, pods } => json!({"podSelector": selector(pods)}),
        Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods } if pods.is_everything() => {
            json!({"namespaceSelector": selector(namespaces)})
        }
        Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods } => {
            json!({"namespaceSelector": selector(namespaces), "podSelector": selector(pods)})
        }
        Peer::IpBlock(block) => {
            let except: Vec<_> = block.except.iter().map(ToString::to_string).collect();
            json!({"ipBlock": without_empty(json!({"cidr": block.cidr.to_string(), "except": except}))})
        }
        // A manifest with a term that cannot be enforced is rejected; this is the same in valid terms.
        Peer::Unmatchable => json!({"podSelector": {"matchExpressions": [
            {"key": "unmatchable", "operator": "Exists"},
            {"key": "unmatchable", "operator": "DoesNotExist"},
        ]}}),
    }
}

fn port(port: &Port) -> Value {
    match port {
        Port::All(protocol) => json!({"protocol": protocol.to_string()}),
        Port::Range { protocol, first, last } if first == last => {
            json!({"protocol": protocol.to_string(), "port": first})
        }
        Port::Range { protocol, first, last } => {
            json!({"protocol": protocol.to_string(), "port": first, "endPort": last})
        }
        Port::Named { protocol, name } => json!({"protocol": protocol.to_string(), "port": &**name}),
        Port::Unmatchable => json!({"protocol": Protocol::Tcp.to_string(), "port": "unmatchable"}),
    }
}

fn selector(selector: &LabelSelector) -> Value {
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for Requirement { key, operator } in &selector.requirements {
        let expression = |operator: &str, values: Vec<&String>| {
            without_empty(json!({"key": key, "operator": operator, "values": values}))
        };
        match operator {
            Operator::In(values) if values.len() == 1 && !labels.contains_key(key) => {
                labels.extend(values.iter().map(|value| (key.clone(), json!(value))));
            }
            Operator::In(values) => expressions.push(expression("In", values.iter().collect())),
            Operator::NotIn(values) => expressions.push(expression("NotIn", values.iter().collect())),
            Operator::Exists => expressions.push(expression("Exists", Vec::new())),
            Operator::DoesNotExist => expressions.push(expression("DoesNotExist", Vec::new())),
        }
    }
    without_empty(json!({"matchLabels": labels, "matchExpressions": expressions}))
}

fn metadata(key: &NamespacedName) -> Map<String, Value> {
    let fields = [("name", &key.name), ("namespace", &key.namespace)];
    fields.into_iter().map(|(field, value)| (field.to_owned(), json!(&**value))).collect()
}

fn deletion(is_set: bool) -> Value {
    if is_set { json!("2026-01-01T00:00:00Z") } else { Value::Null }
}

/// Drops empty fields.
fn without_empty(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    Value::Object(fields.into_iter().filter(|(_, value)| says_something(value)).collect())
}

fn document(object: &Value) -> String {
    format!("---\n{}", block(object, 0))
}

/// Fields in block style; values that fit on one line are JSON, which is valid YAML.
fn block(value: &Value, indent: usize) -> String {
    let Value::Object(fields) = value else {
        return String::new();
    };
    let field = |(field, value): (&String, &Value)| {
        let line = value.to_string();
        match value {
            Value::Array(list) if line.len() + indent > 100 => {
                let items: Vec<_> = list.iter().map(|item| format!("{:indent$}- {item}", "")).collect();
                format!("{:indent$}{field}:\n{}\n", "", items.join("\n"))
            }
            Value::Object(_) if line.len() + indent > 100 => {
                format!("{:indent$}{field}:\n{}", "", block(value, indent + 2))
            }
            _ => format!("{:indent$}{field}: {}\n", "", plain(value, line)),
        }
    };
    fields.iter().map(field).collect()
}

/// A word unchanged, anything else as JSON.
fn plain(value: &Value, json: String) -> String {
    match value {
        Value::String(word) if word.starts_with(|first: char| first.is_ascii_alphabetic()) && !word.contains(": ") => {
            word.clone()
        }
        _ => json,
    }
}
