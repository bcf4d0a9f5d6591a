//! Manifests: what is read, what is refused, and where the mistake is reported.
//!
//! `data/bad.yaml` has its expectations in comments on the lines with the mistakes.
//!
//! Seen to fail when: unknown fields pass; a peer without terms, or with ipBlock and a selector, passes; blocks with
//! host bits, leading zeros or IPv4-mapped addresses pass; `except` may equal `cidr`; `endPort` may be below `port` or
//! without it; protocol names are accepted in any case; `In` needs no values or `Exists` accepts some; label values are
//! not checked; `on` is text; a key may occur twice; lines are counted from the wrong document; UDP is the default
//! protocol; `policyTypes` does not default to `Egress` with egress rules; ports of sidecars are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use palisade_policy::input::{
    Addresses, ContainerPort, IpBlock, Isolates, LabelSelector, Namespace, NamespaceScope, NamespacedName, Operator,
    Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule,
};
use palisade_watch::{Finding, read_manifests};

/// One expectation of `bad.yaml`.
#[derive(Debug)]
struct Expected {
    document: usize,
    line: usize,
    field: String,
    reason: String,
    hint: Option<String>,
}

impl Expected {
    fn is_met_by(&self, finding: &Finding) -> bool {
        let hinted = match (&self.hint, &finding.hint) {
            (Some(part), Some(hint)) => hint.contains(part),
            (Some(_), None) => false,
            (None, _) => true,
        };
        finding.document == Some(self.document)
            && finding.line == Some(self.line)
            && finding.field == self.field
            && finding.reason.contains(&self.reason)
            && hinted
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The `#! field: reason | hint` comments of a file.
fn expectations(text: &str) -> Vec<Expected> {
    let mut expected = Vec::new();
    let mut document = 0;
    for (index, line) in text.lines().enumerate() {
        if line == "---" {
            document += 1;
        }
        if document == 0 {
            continue;
        }
        for comment in line.split("#! ").skip(1) {
            let (place, hint) = match comment.split_once(" | ") {
                Some((place, hint)) => (place, Some(hint.trim().to_owned())),
                None => (comment, None),
            };
            let (field, reason) = place.split_once(": ").expect("field: reason");
            expected.push(Expected {
                document,
                line: index + 1,
                field: field.trim().to_owned(),
                reason: reason.trim().to_owned(),
                hint,
            });
        }
    }
    expected
}

#[test]
fn every_mistake_is_found_where_it_is() {
    let file = data("bad.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let expected = expectations(&text);
    let found = read_manifests(std::slice::from_ref(&file)).unwrap_err().findings;
    assert!(expected.len() > 100, "the expectations are not read");
    let missed: Vec<_> = expected.iter().filter(|expected| !found.iter().any(|f| expected.is_met_by(f))).collect();
    let surplus: Vec<_> = found.iter().filter(|found| !expected.iter().any(|e| e.is_met_by(found))).collect();
    assert!(missed.is_empty() && surplus.is_empty(), "not found: {missed:#?}\nnot expected: {surplus:#?}");
    assert_eq!(found.len(), expected.len());
    let documents: BTreeSet<_> = found.iter().map(|finding| finding.document).collect();
    assert_eq!(documents.len(), text.lines().filter(|line| *line == "---").count(), "every document has a mistake");
}

fn everything() -> LabelSelector {
    LabelSelector::everything()
}

fn requirement(key: &str, operator: Operator) -> Requirement {
    Requirement { key: key.to_owned(), operator }
}

fn range(protocol: Protocol, first: u16, last: u16) -> Port {
    Port::Range { protocol, first, last }
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|text| text.parse().unwrap()).collect();
    Peer::IpBlock(IpBlock { cidr: cidr.parse().unwrap(), except })
}

fn any() -> Rule {
    Rule { peers: Peers::Any, ports: Ports::Any }
}

fn own(pods: LabelSelector) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Own, pods }
}

fn within(namespaces: LabelSelector, pods: LabelSelector) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods }
}

/// A policy that isolates for ingress.
fn policy(namespace: &str, name: &str, ingress: Vec<Rule>) -> Policy {
    Policy {
        key: NamespacedName::new(namespace, name),
        pod_selector: everything(),
        isolates: Isolates { ingress: true, egress: false },
        ingress,
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

const BOTH: Isolates = Isolates { ingress: true, egress: true };

#[test]
fn defaults_are_those_of_the_api_server() {
    let objects = read_manifests(&[data("good.yaml")]).unwrap();
    let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    let selective = LabelSelector {
        requirements: BTreeSet::from([
            requirement("kubernetes.io/metadata.name", Operator::NotIn(values(&["a", "b"]))),
            requirement("team", Operator::Exists),
            requirement("old", Operator::DoesNotExist),
        ]),
    };
    let web = LabelSelector::labels([("app", "web"), ("tier", "1")]);
    let odd = LabelSelector::labels([("app", "80"), ("version", "1.10"), ("date", "2001-01-01")]);
    let peers = vec![
        own(everything()),
        within(everything(), everything()),
        within(selective, LabelSelector::labels([("app", "db")])),
        within(LabelSelector::labels([("team", "a")]), everything()),
        block("0.0.0.0/0", &["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16"]),
        block("2001:db8::/32", &[]),
    ];
    let expected = vec![
        policy(
            "default",
            "defaults",
            vec![Rule {
                peers: Peers::Any,
                ports: Ports::Of(vec![
                    range(Protocol::Tcp, 80, 80),
                    Port::All(Protocol::Udp),
                    Port::Named { protocol: Protocol::Udp, name: "dns".into() },
                    range(Protocol::Tcp, 8000, 8999),
                    range(Protocol::Sctp, 9000, 9000),
                    Port::All(Protocol::Tcp),
                ]),
            }],
        ),
        Policy { isolates: BOTH, egress: vec![any()], ..policy("shop", "egress-by-default", vec![]) },
        policy("shop", "empty-egress", vec![]),
        policy(
            "shop",
            "empty-items",
            vec![any(), Rule { peers: Peers::Any, ports: Ports::Of(vec![Port::All(Protocol::Tcp)]) }],
        ),
        Policy { egress: vec![any()], ..policy("shop", "inert-egress", vec![]) },
        policy("shop", "no-spec", vec![]),
        policy("shop", "null-everywhere", vec![]),
        Policy {
            isolates: BOTH,
            pod_selector: LabelSelector::labels([("app", "web"), ("on", "yes"), ("empty", "")]),
            ..policy("shop", "peers", vec![Rule { peers: Peers::Of(peers), ports: Ports::Any }])
        },
        Policy {
            pod_selector: web.clone(),
            ..policy(
                "shop",
                "yaml-1-1",
                vec![Rule {
                    peers: Peers::Of(vec![
                        own(web),
                        own(LabelSelector::labels([("app", "db"), ("tier", "1")])),
                        own(odd),
                    ]),
                    ports: Ports::Of(vec![
                        range(Protocol::Tcp, 8080, 8080),
                        range(Protocol::Tcp, 80, 80),
                        range(Protocol::Tcp, 8080, 8080),
                        range(Protocol::Tcp, 443, 443),
                    ]),
                }],
            )
        },
    ];
    for (found, expected) in objects.policies.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(objects.policies.len(), expected.len());
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    assert_eq!(
        objects.namespaces,
        [
            Namespace::new("default", labels(&[])),
            Namespace::new("listed", labels(&[("team", "a")])),
            Namespace::new("shop", labels(&[])),
        ]
    );
    assert_eq!(objects.ignored, BTreeMap::from([("ConfigMap".to_owned(), 1)]));
    let warned: Vec<_> =
        objects.warnings.iter().map(|finding| (finding.field.as_str(), finding.line.unwrap())).collect();
    let expected = [
        ("spec.podSelector", 51),
        ("spec.policyTypes", 52),
        ("spec.ingress[0].from[3].podSelector", 72),
        ("spec", 78),
        ("spec.ingress[0]", 88),
        ("spec.ingress[1].ports[0]", 90),
    ];
    assert_eq!(warned, expected);
}

/// A directory that is removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("palisade-manifests-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_fields_of_pods_that_policies_use_are_read() {
    let directory = Directory::new("pods");
    let file = directory.write(
        "pods.yaml",
        r#"
apiVersion: v1
kind: PodList
items:
- metadata:
    name: web
    labels: {app: web}
    deletionTimestamp: 2026-01-01T00:00:00Z
  spec:
    nodeName: node-1
    restartPolicy: Always
    containers:
    - {name: a, image: a, ports: [{name: http, containerPort: 8080}, {containerPort: 1}]}
    - {name: b, image: b, ports: [{name: dns, containerPort: 53, protocol: UDP}]}
    initContainers:
    - {name: c, image: c, ports: [{name: never, containerPort: 1}]}
    - {name: d, image: d, restartPolicy: Always, ports: [{name: mesh, containerPort: 15000, protocol: TCP}]}
  status:
    phase: Running
    podIP: 10.0.0.9
    podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
    hostIP: 192.168.0.1
    hostIPs: [{ip: 192.168.0.1}, {ip: "fd01::1"}]
    conditions: [{type: Ready, status: "False"}, {type: PodReadyToStartContainers, status: "False"}, {type: PodScheduled, status: "True"}]
- metadata: {name: bare, namespace: other}
  status: {conditions: [{type: Ready, status: "False"}, {type: PodReadyToStartContainers, status: "True"}]}
- metadata: {name: host, namespace: other}
  spec: {hostNetwork: true}
  status: {phase: Succeeded, podIP: 192.168.0.1, hostIP: 192.168.0.1}
- metadata: {name: liar, namespace: other}
  status: {podIPs: [{ip: 127.0.0.1}, {ip: 10.0.0.2}, {ip: 10.0.0.3}]}
"#,
    );
    let objects = read_manifests(&[file]).unwrap();
    let mut web = Pod::new(NamespacedName::new("default", "web"));
    web.labels = [("app".to_owned(), "web".to_owned())].into();
    web.node = Some("node-1".into());
    web.phase = Phase::Running;
    web.terminating = true;
    web.awaits_network = true;
    web.addresses = Addresses { v4: "10.0.0.1".parse().ok(), v6: "fd00::1".parse().ok() };
    web.host_addresses = vec!["192.168.0.1".parse().unwrap(), "fd01::1".parse().unwrap()];
    let port = |name: &str, protocol, port| ContainerPort { name: name.into(), protocol, port };
    web.ports =
        vec![port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 53), port("mesh", Protocol::Tcp, 15000)];
    let bare = Pod::new(NamespacedName::new("other", "bare"));
    let mut host = Pod::new(NamespacedName::new("other", "host"));
    host.host_network = true;
    host.phase = Phase::Succeeded;
    host.addresses.v4 = "192.168.0.1".parse().ok();
    host.host_addresses = vec!["192.168.0.1".parse().unwrap()];
    let mut liar = Pod::new(NamespacedName::new("other", "liar"));
    liar.addresses.v4 = "10.0.0.2".parse().ok();
    assert_eq!(objects.pods, [web, bare, host, liar]);
    let warnings: Vec<_> = objects.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert!(matches!(warnings[..], [first, second] if first.contains("127.0.0.1") && second.contains("10.0.0.3")));
}

#[test]
fn namespaces_being_deleted_and_legacy_objects() {
    let directory = Directory::new("legacy");
    let file = directory.write(
        "legacy.yaml",
        r#"
apiVersion: v1
kind: Namespace
metadata: {name: going, deletionTimestamp: "2026-01-01T00:00:00Z"}
---
apiVersion: v1
kind: Namespace
metadata: {name: leaving}
status: {phase: Terminating}
---
apiVersion: v1
kind: Namespace
metadata:
  name: old
  annotations:
    net.beta.kubernetes.io/network-policy: '{"ingress":{"isolation":"DefaultDeny"}}'
status: {phase: Active}
---
apiVersion: extensions/v1beta1
kind: NetworkPolicy
metadata: {name: old, namespace: old}
spec: {podSelector: {}, ingress: [{ports: [{port: 53, protocol: udp}]}]}
status: {}
"#,
    );
    let objects = read_manifests(&[file]).unwrap();
    let terminating: Vec<_> = objects.namespaces.iter().map(|n| (&*n.name, n.terminating)).collect();
    assert_eq!(terminating, [("going", true), ("leaving", true), ("old", false)]);
    let rule = Rule { peers: Peers::Any, ports: Ports::Of(vec![range(Protocol::Udp, 53, 53)]) };
    assert_eq!(objects.policies, [policy("old", "old", vec![rule])]);
    let warned: Vec<_> = objects.warnings.iter().map(|w| (w.line.unwrap(), w.field.as_str())).collect();
    assert_eq!(
        warned,
        [(16, "metadata.annotations[net.beta.kubernetes.io/network-policy]"), (19, "apiVersion"), (23, "status")]
    );
}

#[test]
fn files_directories_and_objects_written_twice() {
    let directory = Directory::new("files");
    let namespace = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let first = directory.write("a.yaml", &namespace("a"));
    directory.write("b.yml", &format!("\u{feff}{}", namespace("b").replace('\n', "\r\n")));
    directory.write(
        "c.json",
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c", "labels": {"a": "\u00e9"}}}"#,
    );
    directory.write(".hidden.yaml", "nonsense: [");
    directory.write("notes.txt", "nonsense: [");
    std::fs::create_dir(directory.0.join("sub.yaml")).unwrap();
    let errors = read_manifests(std::slice::from_ref(&directory.0)).unwrap_err();
    assert_eq!(errors.findings.len(), 1, "{errors}");
    assert_eq!(errors.findings[0].field, "metadata.labels.a");

    directory.write("c.json", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}"#);
    let objects = read_manifests(&[first.clone(), directory.0.clone(), first]).unwrap();
    let names: Vec<_> = objects.namespaces.iter().map(|namespace| &*namespace.name).collect();
    assert_eq!(names, ["a", "b", "c"]);

    let again = directory.write("again.yaml", &format!("# again\n---\n{}", namespace("c")));
    let errors = read_manifests(std::slice::from_ref(&directory.0)).unwrap_err();
    let (again, json) = (again.display(), directory.0.join("c.json").display().to_string());
    assert_eq!(
        errors.to_string(),
        format!(
            "{json}:1: document 1: Namespace c is written twice: it is also at {again}:3: document 1\n    hint: remove one \
             of the two"
        )
    );
    assert_eq!(errors.findings[0].object.as_ref().unwrap().to_string(), "Namespace c");

    let missing = directory.0.join("missing.yaml");
    let errors = read_manifests(std::slice::from_ref(&missing)).unwrap_err();
    assert!(errors.to_string().starts_with(&format!("{}: cannot be read: ", missing.display())), "{errors}");

    let binary = directory.0.join("binary.yaml");
    std::fs::write(&binary, b"a: b\nc: \xff\n").unwrap();
    let errors = read_manifests(std::slice::from_ref(&binary)).unwrap_err();
    assert_eq!(errors.to_string(), format!("{}:2: is not UTF-8 text", binary.display()));
}
