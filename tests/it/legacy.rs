//! Isolation as in Kubernetes 1.3 to 1.6: by an annotation of the namespace, with policies of `extensions/v1beta1`.
//!
//! Seen to fail when: the annotation is honoured without the flag; the flag does nothing; `v1beta1` is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::driven::Driven;
use palisade_lab::{Flow, Lab, Layout, Listen, Namespace, Pod, Protocol, probe_all};
use palisade_policy::input::{Addresses, LegacyIsolation, State};
use palisade_ruleset::render::Options;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/legacy/database.yaml");

/// Who reaches whom, without and with `--legacy-namespace-isolation`. The policy isolates the database in both; the
/// annotation isolates all pods of its namespace.
const FLOWS: &[(&str, &str, u16, &str, &str)] = &[
    ("shop/frontend", "shop/database", 6379, "allow", "allow"),
    ("reports/monthly", "shop/database", 6379, "allow", "allow"),
    ("shop/batch", "shop/database", 6379, "deny", "deny"),
    // The pod selector matches pods of the policy's own namespace.
    ("other/web", "shop/database", 6379, "deny", "deny"),
    ("shop/frontend", "shop/database", 22, "deny", "deny"),
    // Pods that no policy selects.
    ("other/web", "shop/frontend", 80, "allow", "deny"),
    ("shop/batch", "shop/frontend", 80, "allow", "deny"),
    // Node-originated traffic passes; other namespaces are open; only ingress is isolated.
    ("node/node-1", "shop/frontend", 80, "allow", "allow"),
    ("shop/batch", "other/web", 80, "allow", "allow"),
];

fn palisade(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_palisade")).args(arguments).output().expect("palisade runs")
}

fn verdicts(flags: &[&str]) -> Vec<String> {
    FLOWS
        .iter()
        .map(|(from, to, port, ..)| {
            let port = port.to_string();
            let flow = ["trace", "-f", MANIFESTS, "--from", from, "--to", to, "--port", &port, "-o", "json"];
            let done = palisade(&[&flow[..], flags].concat());
            let answer: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
            answer["verdict"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
        })
        .collect()
}

#[test]
fn the_annotation_isolates_with_the_flag_only() {
    let without: Vec<_> = FLOWS.iter().map(|flow| flow.3).collect();
    let with: Vec<_> = FLOWS.iter().map(|flow| flow.4).collect();
    assert_eq!(verdicts(&[]), without);
    assert_eq!(verdicts(&["--legacy-namespace-isolation"]), with);
}

/// The pods of the manifests in a lab, with their IPs there.
fn stage(lab: &Lab, state: &mut State) -> BTreeMap<String, Pod> {
    let mut pods = BTreeMap::new();
    let keys: Vec<_> = state.pods.keys().cloned().collect();
    for key in keys {
        let placed = lab.node(1).add_pod(&key.to_string()).unwrap();
        placed.serve(&[22, 80, 6379].map(Listen::tcp)).unwrap();
        let mut pod = (*state.pods[&key]).clone();
        pod.addresses = Addresses::accept(placed.addresses()).0;
        state.apply(palisade_policy::input::Change::Pod(pod));
        pods.insert(key.to_string(), placed);
    }
    pods
}

#[test]
fn real_packets_get_the_same_verdicts_in_both_modes() {
    for honoured in [false, true] {
        let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
        let mut state: State = palisade_watch::read_manifests(&[Path::new(MANIFESTS).into()]).unwrap().into();
        if honoured {
            LegacyIsolation::honour(&mut state);
        }
        let pods = stage(&lab, &mut state);
        let _enforcer = Driven::start_with(lab.node(1), &state, &Options::default());
        let (mut flows, mut expected) = (Vec::new(), Vec::new());
        for (from, to, port, without, with) in FLOWS {
            let from: &Namespace = pods.get(*from).map_or_else(|| lab.node(1).namespace(), Pod::namespace);
            for address in pods[*to].addresses() {
                flows.push(Flow::new(from, Protocol::Tcp, address, *port));
                expected.push(if honoured { *with } else { *without } == "allow");
            }
        }
        let outcomes = probe_all(&flows, Duration::from_secs(1)).unwrap();
        for ((flow, outcome), expected) in flows.iter().zip(outcomes).zip(expected) {
            assert_eq!(outcome.is_reachable(), expected, "{flow}, honoured: {honoured}");
        }
    }
}

#[test]
fn the_ruleset_names_the_annotation_and_the_reader_is_warned() {
    let plain = palisade(&["render", "-f", MANIFESTS, "--node", "node-1"]);
    let warnings = String::from_utf8_lossy(&plain.stderr);
    assert!(warnings.contains("Kubernetes 1.16 removed extensions/v1beta1"), "{warnings}");
    assert!(warnings.contains("isolates nothing without --legacy-namespace-isolation"), "{warnings}");
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("net.beta.kubernetes.io"));
    let honoured = palisade(&["render", "-f", MANIFESTS, "--node", "node-1", "--legacy-namespace-isolation"]);
    let ruleset = String::from_utf8_lossy(&honoured.stdout);
    assert!(ruleset.contains("shop/net.beta.kubernetes.io/network-policy"), "{ruleset}");
}
