//! Every remedy, applied as printed, settles its finding and causes no other.
//!
//! Seen to fail when: the remedy of `no-dns` named kube-system although no DNS pod is known; it omitted TCP; the remedy
//! of `rules-without-policy-type` removed nothing; a rule was removed at the position of another.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{findings, run};

/// An object with a mistake, among correct ones, and the code of the finding.
fn cases() -> Vec<(&'static str, Vec<Value>)> {
    let policy = |name: &str, spec: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
               "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    };
    let pod = |namespace: &str, name: &str, port: Value, spec: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
                             "metadata": {"name": name, "namespace": namespace, "labels": {"k8s-app": name}},
                             "spec": {"containers": [{"ports": [port]}]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    };
    let web = || pod("shop", "web", json!({"containerPort": 8125, "name": "stats", "protocol": "UDP"}), json!({}));
    let dns = || pod("kube-system", "kube-dns", json!({"containerPort": 53, "protocol": "UDP"}), json!({}));
    let cache = || pod("kube-system", "node-local-dns", json!({"containerPort": 53}), json!({"hostNetwork": true}));
    let egress = |rules: Value| policy("web", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}));
    let ingress =
        |rules: Value| policy("web", json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}));
    let only_443 = || egress(json!([{"ports": [{"port": 443}]}]));
    let any = || json!({"from": [{"podSelector": {}}]});
    vec![
        ("no-dns", vec![web(), only_443()]),
        ("no-dns", vec![web(), dns(), only_443()]),
        ("no-dns", vec![web(), dns(), cache(), only_443()]),
        (
            "dns-cache",
            vec![
                web(),
                dns(),
                cache(),
                egress(json!([{"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]}])),
            ],
        ),
        ("unselected-pods", vec![web()]),
        (
            "rules-without-policy-type",
            vec![web(), policy("web", json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]}))],
        ),
        ("shadowed-rule", vec![web(), ingress(json!([any(), any()]))]),
        (
            "shadowed-by-policy",
            vec![web(), ingress(json!([any()])), policy("more", json!({"podSelector": {}, "ingress": [{}]}))],
        ),
        ("named-port-undefined", vec![web(), ingress(json!([{"ports": [{"port": "stats"}]}]))]),
        ("named-port-undefined", vec![web(), ingress(json!([{"ports": [{"port": "sttas", "protocol": "UDP"}]}]))]),
    ]
}

fn checked(objects: &[Value], whole: bool) -> Vec<Value> {
    let text = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let arguments = ["check", "-f", "-", "-o", "json", "--whole-cluster"];
    findings(&run(if whole { &arguments } else { arguments.split_last().unwrap().1 }, &text))
}

/// Applies one operation to the object of a finding.
fn apply(objects: &mut Vec<Value>, finding: &Value, operation: &Value) {
    let value = operation["value"].clone();
    if operation["op"] == "create" {
        objects.push(value);
        return;
    }
    let field = finding["field"].as_str().unwrap();
    let item: usize = field.strip_prefix("items[").unwrap().split(']').next().unwrap().parse().unwrap();
    let path = operation["path"].as_str().unwrap();
    let (parent, last) = path.rsplit_once('/').unwrap();
    let parent = objects[item].pointer_mut(parent).unwrap_or_else(|| panic!("{path}: {finding}"));
    match (operation["op"].as_str().unwrap(), parent) {
        ("add", Value::Array(list)) if last == "-" => list.push(value),
        ("add", Value::Object(fields)) => drop(fields.insert(last.to_owned(), value)),
        ("remove", Value::Array(list)) => drop(list.remove(last.parse().unwrap())),
        ("remove", Value::Object(fields)) => assert!(fields.remove(last).is_some(), "{path}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn remedies_settle_their_findings() {
    for whole in [false, true] {
        let mut seen = BTreeSet::new();
        for (code, mut objects) in cases() {
            let found = checked(&objects, whole);
            let [finding] = found.as_slice() else { panic!("{code}: {found:#?}") };
            assert_eq!(finding["code"], code, "{finding}");
            let remedy = finding["remedy"].as_array().unwrap_or_else(|| panic!("{code} has no remedy: {finding}"));
            remedy.iter().for_each(|operation| apply(&mut objects, finding, operation));
            assert_eq!(checked(&objects, whole), [] as [Value; 0], "{code}: {objects:#?}");
            seen.insert(code);
        }
        assert_eq!(seen.len(), 7);
    }
}

/// The samples have a case above for each code with a remedy, except for objects that only older servers have.
#[test]
fn every_remedy_is_tried() {
    let tried: BTreeSet<_> = cases().into_iter().map(|(code, _)| code.to_owned()).collect();
    let output = run(&["check", "-f", super::SAMPLES, "-o", "json"], "");
    let with_remedy = findings(&output).into_iter().filter(|finding| finding["remedy"].is_array());
    let with_remedy: BTreeSet<_> = with_remedy.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect();
    super::assert_same(&tried, &with_remedy);
}
