//! The chart's values: each has its documented effect and no other, and bad ones are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::manifests::render::{Objects, chart, read, template};

/// The place of a field: a JSON pointer, within the spec of the pods unless it begins with a slash.
type Effects = &'static [(&'static str, &'static str)];

/// Values, and every field that they change, as JSON; null if the field is removed.
const EFFECTS: &[(&[&str], Effects)] = &[
    (
        &["image.repository=registry.example:5000/palisade"],
        &[("containers/0/image", "\"registry.example:5000/palisade:VERSION\"")],
    ),
    (&["image.tag=1.2.3"], &[("containers/0/image", "\"ghcr.io/palisade/palisade:1.2.3\"")]),
    (
        &["image.tag=1.2.3", "image.digest=sha256:DIGEST"],
        &[("containers/0/image", "\"ghcr.io/palisade/palisade@sha256:DIGEST\"")],
    ),
    (&["image.pullPolicy=Always"], &[("containers/0/imagePullPolicy", "\"Always\"")]),
    (&["imagePullSecrets[0].name=registry"], &[("imagePullSecrets/0/name", "\"registry\"")]),
    (&["log.level=debug"], &[("containers/0/env/4/value", "\"debug\"")]),
    (&["log.format=json"], &[("containers/0/args/1", "\"--log-format=json\"")]),
    (
        &["port=9441"],
        &[("containers/0/args/1", "\"--listen=[::]:9441\""), ("containers/0/ports/0/containerPort", "9441")],
    ),
    (&["established=keep"], &[("containers/0/args/1", "\"--established=keep\"")]),
    (&["untracked=judge"], &[("containers/0/args/1", "\"--untracked=judge\"")]),
    (&["newPods=pass"], &[("containers/0/args/1", "\"--new-pods=pass\"")]),
    (&["verdictCache=0xff000000"], &[("containers/0/args/1", "\"--verdict-cache=0xff000000\"")]),
    (&["verdictCache=off"], &[("containers/0/args/1", "\"--verdict-cache=off\"")]),
    (&["bridgeNetfilter=check"], &[("containers/0/args/1", "\"--bridge-netfilter=check\"")]),
    (&["policyBudget=1000"], &[("containers/0/args/1", "\"--policy-budget=1000\"")]),
    (&["allowEgressToOwnNode=true"], &[("containers/0/args/1", "\"--allow-egress-to-own-node\"")]),
    (&["legacyNamespaceIsolation=true"], &[("containers/0/args/1", "\"--legacy-namespace-isolation\"")]),
    (
        &["apiServer.host=2001:db8::1", "apiServer.port=443"],
        &[
            ("containers/0/env/5/name", "\"KUBERNETES_SERVICE_HOST\""),
            ("containers/0/env/5/value", "\"2001:db8::1\""),
            ("containers/0/env/6/name", "\"KUBERNETES_SERVICE_PORT\""),
            ("containers/0/env/6/value", "\"443\""),
        ],
    ),
    (&["maxUnavailable=3"], &[("/spec/updateStrategy/rollingUpdate/maxUnavailable", "3")]),
    (&["priorityClassName=high"], &[("priorityClassName", "\"high\"")]),
    (&["nodeSelector.pool=a"], &[("nodeSelector/pool", "\"a\"")]),
    (&["tolerations=null"], &[("tolerations/0/operator", "null")]),
    (&["affinity.nodeAffinity.x=1"], &[("affinity/nodeAffinity/x", "1")]),
    (&["resources.limits.memory=256Mi"], &[("containers/0/resources/limits/memory", "\"256Mi\"")]),
    (&["podLabels.team=net"], &[("/spec/template/metadata/labels/team", "\"net\"")]),
    // The selector's own label cannot be removed.
    (&["podLabels.app\\.kubernetes\\.io/name=other"], &[]),
    (&["podAnnotations.note=x"], &[("/spec/template/metadata/annotations/note", "\"x\"")]),
    // Values that a parent chart sets for all its charts.
    (&["global.registry=x"], &[]),
];

/// Values that are groups of values.
const GROUPS: &[&str] = &["image", "log", "apiServer"];

/// Refused values, and the messages.
const REFUSED: &[(&str, &[&str])] = &[
    ("lgo.level=debug", &["additional properties 'lgo' not allowed"]),
    ("log.levle=debug", &["/log", "additional properties 'levle' not allowed"]),
    ("log.level=loud", &["/log/level", "'error', 'warn', 'info', 'debug', 'trace'"]),
    ("log.format=xml", &["/log/format", "'text', 'json'"]),
    ("port=0", &["/port", "minimum: got 0, want 1"]),
    ("port=65536", &["/port", "maximum: got 65,536, want 65,535"]),
    ("port=metrics", &["/port", "got string, want integer"]),
    ("established=drop", &["/established", "'judge', 'keep'"]),
    ("untracked=accept", &["/untracked", "'drop', 'judge'"]),
    ("newPods=open", &["/newPods", "'hold', 'pass'"]),
    ("verdictCache=0", &["/verdictCache", "got number, want string"]),
    ("verdictCache=0xff00zz", &["/verdictCache", "does not match pattern"]),
    ("bridgeNetfilter=off", &["/bridgeNetfilter", "'set', 'check'"]),
    ("policyBudget=-1", &["/policyBudget", "minimum: got -1, want 0"]),
    ("allowEgressToOwnNode=sometimes", &["/allowEgressToOwnNode", "got string, want boolean"]),
    ("legacyNamespaceIsolation=1", &["/legacyNamespaceIsolation", "got number, want boolean"]),
    ("image=palisade:1", &["/image", "got string, want object"]),
    ("image.repository=Palisade", &["/image/repository", "does not match pattern"]),
    ("image.tag=a b", &["/image/tag", "does not match pattern"]),
    ("image.digest=latest", &["/image/digest", "does not match pattern"]),
    ("image.pullPolicy=Sometimes", &["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
    ("imagePullSecrets[0]=registry", &["/imagePullSecrets/0", "got string, want object"]),
    ("apiServer.host=https://api", &["/apiServer/host", "does not match pattern"]),
    ("apiServer.port=0", &["/apiServer/port", "minimum: got 0, want 1"]),
    ("maxUnavailable=many", &["/maxUnavailable", "does not match pattern"]),
    ("tolerations=all", &["/tolerations", "got string, want array"]),
    ("affinity=none", &["/affinity", "got string, want object"]),
    ("nodeSelector.pool=1", &["/nodeSelector/pool", "got number, want string"]),
    ("resources.memory=1Gi", &["/resources", "additional properties 'memory' not allowed"]),
    ("cleanup=later", &["/cleanup", "got string, want boolean"]),
    ("podAnnotations.note=1", &["/podAnnotations/note", "got number, want string"]),
    ("podLabels.team=true", &["/podLabels/team", "got boolean, want string"]),
];

#[test]
fn each_value_changes_what_it_says_and_nothing_else() {
    let digest = "0123456789abcdef".repeat(4);
    let whole = |text: &str| text.replace("VERSION", env!("CARGO_PKG_VERSION")).replace("DIGEST", &digest);
    let default = chart(&[]);
    for (values, effects) in EFFECTS {
        let values: Vec<_> = values.iter().map(|value| whole(value)).collect();
        let changed = chart(&values.iter().map(String::as_str).collect::<Vec<_>>());
        let expected: BTreeMap<_, Value> = effects
            .iter()
            .map(|(pointer, value)| {
                let prefix = if pointer.starts_with('/') { "" } else { "/spec/template/spec/" };
                (format!("DaemonSet palisade {prefix}{pointer}"), serde_json::from_str(&whole(value)).unwrap())
            })
            .collect();
        assert_eq!(changes(&default, &changed), expected, "{values:?}");
    }
}

/// Fields of objects with another value, and that value.
fn changes(before: &Objects, after: &Objects) -> BTreeMap<String, Value> {
    let flat = |objects: &Objects| {
        let fields = objects.iter().flat_map(|((kind, name), object)| {
            fields(object).into_iter().map(move |(pointer, value)| (format!("{kind} {name} {pointer}"), value))
        });
        fields.collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (flat(before), flat(after));
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = all.into_iter().filter(|field| before.get(*field) != after.get(*field));
    changed.map(|field| (field.clone(), after.get(field).cloned().unwrap_or_default())).collect()
}

/// The fields of an object that differ, for people.
pub(crate) fn differences(found: &Value, expected: &Value) -> Vec<String> {
    let (found, expected) = (fields(found), fields(expected));
    let all: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ = all.into_iter().filter(|field| found.get(*field) != expected.get(*field));
    differ.map(|field| format!("{field}: {:?}, not {:?}", found.get(field), expected.get(field))).collect()
}

/// The leaves of a value by their JSON pointers.
fn fields(value: &Value) -> BTreeMap<String, Value> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) if !map.is_empty() => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        leaf => return BTreeMap::from([(String::new(), leaf.clone())]),
    };
    let below = |(key, value): (String, &Value)| {
        fields(value).into_iter().map(move |(pointer, leaf)| (format!("/{key}{pointer}"), leaf))
    };
    children.into_iter().flat_map(below).collect()
}

#[test]
fn bad_values_are_refused_with_the_value_and_the_reason() {
    for (value, says) in REFUSED {
        let refused = template(&[value]).expect_err(value);
        for words in *says {
            assert!(refused.contains(words), "{value}: no \"{words}\" in:\n{refused}");
        }
        assert!(refused.contains("values don't meet the specifications of the schema"), "{value}:\n{refused}");
    }
}

#[test]
fn the_schema_describes_every_value_and_the_tables_above_try_it() {
    let values: Value = serde_saphyr::from_str(&read("chart/values.yaml")).unwrap();
    let mut names = BTreeSet::new();
    for (name, value) in values.as_object().unwrap() {
        match value.as_object() {
            Some(group) if GROUPS.contains(&name.as_str()) => {
                names.extend(group.keys().map(|key| format!("{name}.{key}")));
            }
            _ => drop(names.insert(name.clone())),
        }
    }
    let schema: Value = serde_json::from_str(&read("chart/values.schema.json")).unwrap();
    let mut described = BTreeSet::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        if GROUPS.contains(&name.as_str()) {
            described.extend(property["properties"].as_object().unwrap().keys().map(|key| format!("{name}.{key}")));
        } else if name != "global" {
            described.insert(name.clone());
        }
    }
    assert_eq!(described, names);
    for name in names {
        let tried = EFFECTS.iter().any(|(values, _)| values.iter().any(|value| value.starts_with(&name)));
        // The cleanup is a separate object, see manifests.rs.
        assert!(tried || name == "cleanup", "{name} has no effect that is tried");
        let refused = REFUSED.iter().any(|(value, _)| value.starts_with(&name));
        assert!(refused || name == "priorityClassName", "{name}: nothing that is refused is tried");
    }
}
