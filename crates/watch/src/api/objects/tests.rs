//! Objects that an API server may hold. None opens a pod because it is unreadable.
//!
//! Seen to fail when: a peer or port with a mistake is kept; an unknown field or a list of the wrong type widens a rule
//! to everyone or every port; the rules stay although `podSelector` or `spec` has a mistake; unreadable `policyTypes`
//! count as missing; old blocks are refused, or IPv4-mapped ones stay IPv6; every init container counts as a sidecar;
//! `podIP` takes precedence over `podIPs`; refused IPs give no warning; a terminating phase is overlooked.

#![expect(clippy::needless_pass_by_value, reason = "a literal at every call")]

use palisade_policy::input::{
    Addresses, ContainerPort, Isolates, LEGACY_ANNOTATION, LabelSelector, Namespace, NamespaceScope, NamespacedName,
    Operator, Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule,
};
use serde_json::{Value, json};

use super::*;

fn policy(spec: Value) -> Policy {
    let object = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    let read = Received::read(serde_json::from_value::<KubePolicy>(object).unwrap()).unwrap();
    match read.object {
        Object::Policy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

fn pod(object: Value) -> (Pod, Vec<String>) {
    let Received { object, warnings } = Received::read(serde_json::from_value::<KubePod>(object).unwrap()).unwrap();
    match object {
        Object::Pod(pod) => (pod, warnings),
        other => panic!("{other:?}"),
    }
}

fn unenforceable(policy: &Policy) -> Vec<&str> {
    policy.unenforceable.iter().map(|term| term.field.as_str()).collect()
}

const INGRESS: Isolates = Isolates { ingress: true, egress: false };
const BOTH: Isolates = Isolates { ingress: true, egress: true };

/// The peers of a policy whose only rule has these.
fn peers(from: Value) -> (Peers, Vec<String>) {
    let mut policy = policy(json!({"ingress": [{"from": from}]}));
    assert_eq!(policy.isolates, INGRESS);
    let rule = policy.ingress.pop().unwrap();
    assert_eq!(rule.ports, Ports::Any);
    (rule.peers, policy.unenforceable.into_iter().map(|term| term.field).collect())
}

/// The ports of a policy whose only rule has these.
fn ports(ports: Value) -> (Ports, Vec<String>) {
    let mut policy = policy(json!({"ingress": [{"ports": ports}]}));
    let rule = policy.ingress.pop().unwrap();
    assert_eq!(rule.peers, Peers::Any);
    (rule.ports, policy.unenforceable.into_iter().map(|term| term.field).collect())
}

#[test]
fn blocks_of_old_objects_are_read_as_go_reads_them() {
    let (peers, unenforceable) = peers(json!([
        {"ipBlock": {"cidr": "010.0.0.0/8", "except": ["10.1.2.3/16", "::ffff:10.2.0.0/112"]}},
        {"ipBlock": {"cidr": "192.168.0.5/24"}},
        {"ipBlock": {"cidr": "::ffff:10.0.0.0/104", "except": ["11.0.0.0/8"]}},
    ]));
    let block = |cidr: &str, except: &[&str]| {
        let except = except.iter().map(|text| text.parse().unwrap()).collect();
        Peer::IpBlock(palisade_policy::input::IpBlock { cidr: cidr.parse().unwrap(), except })
    };
    let expected = vec![
        block("10.0.0.0/8", &["10.1.0.0/16", "10.2.0.0/16"]),
        block("192.168.0.0/24", &[]),
        block("10.0.0.0/8", &["11.0.0.0/8"]),
    ];
    assert_eq!(peers, Peers::Of(expected));
    assert!(unenforceable.is_empty());
}

#[test]
fn an_unreadable_peer_matches_nothing() {
    for (peer, field) in [
        (json!({}), ""),
        (json!(null), ""),
        (json!("any"), ""),
        (json!({"podSelector": null}), ""),
        (json!({"ipBlock": {}}), ".ipBlock.cidr"),
        (json!({"ipBlock": {"cidr": "10.0.0.0"}}), ".ipBlock.cidr"),
        (json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["nonsense"]}}), ".ipBlock.except[0]"),
        (json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}}), ".ipBlock.except"),
        (json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}), ""),
        (json!({"podSelector": {}, "serviceAccountSelector": {}}), ".serviceAccountSelector"),
        (json!({"podSelector": {"matchNames": ["a"]}}), ".podSelector.matchNames"),
        (json!({"podSelector": {"matchLabels": {"a b": "c"}}}), ".podSelector.matchLabels[a b]"),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}),
            ".namespaceSelector.matchExpressions[0].operator",
        ),
    ] {
        let label = peer.to_string();
        let (peers, unenforceable) = peers(json!([peer, {"namespaceSelector": {}}]));
        let other = Peer::Pods {
            namespaces: NamespaceScope::Matching(LabelSelector::everything()),
            pods: LabelSelector::everything(),
        };
        assert_eq!(peers, Peers::Of(vec![Peer::Unmatchable, other]), "{label}");
        assert_eq!(unenforceable, [format!("spec.ingress[0].from[0]{field}")], "{label}");
    }
}

#[test]
fn an_unreadable_port_matches_nothing() {
    for (port, field) in [
        (json!(80), ""),
        (json!({"port": 0}), ".port"),
        (json!({"port": 80.5}), ".port"),
        (json!({"port": "80"}), ".port"),
        (json!({"port": 80, "endPort": 79}), ".endPort"),
        (json!({"endPort": 79}), ".endPort"),
        (json!({"port": "http", "endPort": 79}), ".endPort"),
        (json!({"protocol": "tcp"}), ".protocol"),
        (json!({"protocol": 6}), ".protocol"),
        (json!({"port": 80, "application": "http"}), ".application"),
    ] {
        let label = port.to_string();
        let (ports, unenforceable) = ports(json!([port, {"port": 443}]));
        let tls = Port::Range { protocol: Protocol::Tcp, first: 443, last: 443 };
        assert_eq!(ports, Ports::Of(vec![Port::Unmatchable, tls]), "{label}");
        assert_eq!(unenforceable, [format!("spec.ingress[0].ports[0]{field}")], "{label}");
    }
}

#[test]
fn an_unreadable_rule_matches_nothing() {
    let nobody = Peers::Of(vec![Peer::Unmatchable]);
    for (rule, peers, ports) in [
        (json!({"to": []}), nobody.clone(), Ports::Any),
        (json!({"from": {}}), nobody.clone(), Ports::Any),
        (json!({"from": "any"}), nobody.clone(), Ports::Any),
        (json!(80), nobody, Ports::Any),
        (json!({"ports": {}}), Peers::Any, Ports::Of(vec![Port::Unmatchable])),
    ] {
        let label = rule.to_string();
        let policy = policy(json!({"ingress": [rule]}));
        assert_eq!(policy.ingress, [Rule { peers, ports }], "{label}");
        assert_eq!(policy.unenforceable.len(), 1, "{label}");
    }
}

#[test]
fn an_unreadable_pod_selector_selects_more_and_allows_nothing() {
    let policy = policy(json!({
        "podSelector": {
            "matchLabels": {"app": "web", "bad": "no label"},
            "matchExpressions": [
                {"key": "tier", "operator": "Exists"},
                {"key": "zone", "operator": "In", "values": ["a", "not a value"]},
            ],
        },
        "ingress": [{}],
        "egress": [{}],
    }));
    let web = LabelSelector::labels([("app", "web")]).requirements;
    let tier = Requirement { key: "tier".to_owned(), operator: Operator::Exists };
    assert_eq!(policy.pod_selector.requirements, web.into_iter().chain([tier]).collect());
    assert_eq!((policy.isolates, policy.ingress.len(), policy.egress.len()), (BOTH, 0, 0));
    assert_eq!(
        unenforceable(&policy),
        ["spec.podSelector.matchLabels.bad", "spec.podSelector.matchExpressions[1].values[1]"]
    );
}

#[test]
fn an_unreadable_spec_isolates() {
    for (spec, isolates, fields) in [
        (json!("nonsense"), BOTH, vec!["spec"]),
        (json!([]), BOTH, vec!["spec"]),
        (json!({"podSelector": "web"}), INGRESS, vec!["spec.podSelector"]),
        (json!({"ingress": [{}], "priority": 1}), INGRESS, vec!["spec.priority"]),
        (json!({"ingress": {}, "egress": "all"}), BOTH, vec!["spec.ingress", "spec.egress"]),
        (json!({"policyTypes": ["Ingress", "Both"]}), BOTH, vec!["spec.policyTypes[1]"]),
        (json!({"policyTypes": [{"Ingress": {}}]}), BOTH, vec!["spec.policyTypes[0]"]),
        (json!({"policyTypes": "Egress"}), BOTH, vec!["spec.policyTypes"]),
    ] {
        let label = spec.to_string();
        let policy = policy(spec);
        assert!(policy.pod_selector.is_everything(), "{label}");
        assert_eq!(policy.isolates, isolates, "{label}");
        assert!(policy.ingress.is_empty() && policy.egress.is_empty(), "{label}");
        assert_eq!(unenforceable(&policy), fields, "{label}");
    }
}

#[test]
fn the_defaults_of_the_api_hold_for_objects_too() {
    let missing = serde_json::from_value::<KubePolicy>(json!({"metadata": {"name": "p", "namespace": "n"}}));
    let Object::Policy(missing) = Received::read(missing.unwrap()).unwrap().object else { panic!("not a policy") };
    assert_eq!(missing, policy(json!({})));
    assert_eq!((missing.isolates, missing.ingress.len()), (INGRESS, 0));
    assert_eq!(policy(json!({"egress": []})).isolates, INGRESS);
    assert_eq!(policy(json!({"egress": [{}]})).isolates, BOTH);
    assert_eq!(policy(json!({"policyTypes": ["Egress"]})).isolates, Isolates { ingress: false, egress: true });
    let (read, _) = ports(json!([{"port": 80}, {"port": "http"}, {}]));
    let tcp = Protocol::Tcp;
    let http = Port::Named { protocol: tcp, name: "http".into() };
    assert_eq!(read, Ports::Of(vec![Port::Range { protocol: tcp, first: 80, last: 80 }, http, Port::All(tcp)]));
}

#[test]
fn pods_are_trimmed_and_their_status_is_not_believed_blindly() {
    let (read, warnings) = pod(json!({
        "metadata": {
            "name": "web", "namespace": "shop", "resourceVersion": "7", "labels": {"app": "web"},
            "annotations": {"a": "b"}, "managedFields": [{"manager": "m"}], "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "nodeName": "node-1", "hostNetwork": false, "tolerations": [{}],
            "containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}, {"name": "b"}],
            "initContainers": [
                {"name": "c", "ports": [{"name": "never", "containerPort": 1}]},
                {"name": "d", "restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15000}]},
            ],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.9", "hostIP": "192.168.0.1",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodReadyToStartContainers", "status": "False"}],
            "podIPs": [{"ip": "127.0.0.1"}, {"ip": "010.0.0.1"}, {"ip": "fd00::1"}, {"ip": "fd00::2"}, {"ip": "what"}],
        },
    }));
    let mut expected = Pod::new(NamespacedName::new("shop", "web"));
    expected.labels = [("app".to_owned(), "web".to_owned())].into();
    expected.node = Some("node-1".into());
    expected.phase = Phase::Running;
    expected.terminating = true;
    expected.awaits_network = true;
    expected.addresses = Addresses { v4: "10.0.0.1".parse().ok(), v6: "fd00::1".parse().ok() };
    expected.host_addresses = vec!["192.168.0.1".parse().unwrap()];
    let port = |name: &str, port| ContainerPort { name: name.into(), protocol: Protocol::Tcp, port };
    expected.ports = vec![port("http", 8080), port("mesh", 15000)];
    assert_eq!(read, expected);
    let about = |part: &str| warnings.iter().any(|warning| warning.contains(part));
    assert!(about("127.0.0.1") && about("fd00::2") && about("what") && warnings.len() == 3, "{warnings:?}");

    let bare = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": null}, "status": {}});
    assert_eq!(pod(bare), (Pod::new(NamespacedName::new("b", "a")), vec![]));
    let fallback = json!({"metadata": {"name": "a", "namespace": "b"}, "status": {"podIP": "10.0.0.1", "podIPs": [], "phase": "New"}});
    let (read, _) = pod(fallback);
    assert!(!read.awaits_network);
    let conditions = |kind: &str, status: &str| json!({"metadata": {"name": "a", "namespace": "b"}, "status": {"conditions": [{"type": kind, "status": status}, {}]}});
    for (kind, status) in
        [("PodReadyToStartContainers", "True"), ("PodReadyToStartContainers", "Unknown"), ("Ready", "False")]
    {
        assert!(!pod(conditions(kind, status)).0.awaits_network, "{kind} {status}");
    }
    assert_eq!((read.addresses.v4, read.phase), ("10.0.0.1".parse().ok(), Phase::Unknown));
}

#[test]
fn namespaces() {
    let read = |object: Value| Received::read(serde_json::from_value::<KubeNamespace>(object).unwrap()).unwrap();
    let plain = read(json!({"metadata": {"name": "a", "labels": {"team": "x"}}, "status": {"phase": "Active"}}));
    let expected = Namespace::new("a", [("team".to_owned(), "x".to_owned())].into());
    assert_eq!(plain, Received { object: Object::Namespace(expected), warnings: vec![] });
    for leaving in [
        json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}}),
        json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ] {
        let Object::Namespace(namespace) = read(leaving).object else { panic!("not a namespace") };
        assert!(namespace.terminating);
    }
    let legacy = read(json!({"metadata": {"name": "a", "annotations": {LEGACY_ANNOTATION: "{}"}}}));
    assert_eq!(legacy.warnings.len(), 1);
}
