//! How long `palisade check -f` takes on a cluster's manifests, and what doubling the cluster does to it.
//!
//! Run by `hack/bench check`. Times are medians of several runs on this machine; compare machines by the ratios. A ratio
//! of 2 when everything doubles is linear, 4 is quadratic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program of measurements: it ends where it fails"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palisade_policy::input::{
    IpBlock, Isolates, LabelSelector, NamespaceScope, NamespacedName, Peer, Peers, Policy, Port, Ports, Protocol, Rule,
    State,
};
use palisade_testkit::cluster::{Size, cluster};
use palisade_testkit::generate::manifests;

/// Runs of each measurement.
const RUNS: usize = 5;

fn main() {
    let directory = std::env::temp_dir().join(format!("palisade-bench-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory for temporary files");
    println!("{:48} {:>8} {:>8} {:>8}", "", "half", "whole", "ratio");
    for (name, shape) in shapes() {
        let [half, whole] = [1, 2].map(|of_two| {
            let file = directory.join(format!("{of_two}.yaml"));
            std::fs::write(&file, manifests(&shape(of_two))).expect("the manifests");
            median(&file)
        });
        println!("{name:48} {:>6.2} s {:>6.2} s {:>8.2}", half, whole, whole / half);
    }
    std::fs::remove_dir_all(&directory).expect("the directory for temporary files");
}

type Shape = fn(u32) -> State;

fn shapes() -> [(&'static str, Shape); 3] {
    [
        ("5,000 pods, 500 policies, 100 namespaces", |of_two| {
            cluster(Size { local_pods: 125 * of_two, pods: 2500 * of_two, policies: 250 * of_two, namespaces: 100 })
        }),
        ("3,000 pods, 3,000 policies, 50 namespaces", |of_two| {
            cluster(Size { local_pods: 125 * of_two, pods: 1500 * of_two, policies: 1500 * of_two, namespaces: 50 })
        }),
        ("3,000 pods, 3,000 policies of their own, 1 namespace", |of_two| one_namespace(1500 * of_two)),
    ]
}

/// One namespace in which each pod has a label and a policy of its own: nothing that a selector finds is shared.
fn one_namespace(number: u32) -> State {
    let mut state = cluster(Size { local_pods: 250, pods: number, policies: 0, namespaces: 1 });
    let label = |number: u32| ("instance".to_owned(), format!("instance-{number}"));
    let pods = std::mem::take(&mut state.pods).into_values().enumerate();
    state.pods = pods
        .map(|(number, mut pod)| {
            Arc::make_mut(&mut pod).labels.extend([label(u32::try_from(number).expect("few pods"))]);
            (pod.key.clone(), pod)
        })
        .collect();
    for one in 0..number {
        let policy = policy(one, number, &label);
        state.policies.insert(policy.key.clone(), policy);
    }
    state
}

/// Selects one pod; allows the next one to port 8080, and a block of its own to port 9090.
fn policy(number: u32, of: u32, label: &dyn Fn(u32) -> (String, String)) -> Policy {
    let selector = |number: u32| {
        let (key, value) = label(number);
        LabelSelector::labels([(key.as_str(), value)])
    };
    let port = |port| Ports::Of(vec![Port::Range { protocol: Protocol::Tcp, first: port, last: port }]);
    let next = Peer::Pods { namespaces: NamespaceScope::Own, pods: selector((number + 1) % of) };
    let [.., third, fourth] = number.to_be_bytes();
    let cidr = format!("172.16.{third}.{fourth}/32").parse().expect("a CIDR");
    Policy {
        key: NamespacedName::new("namespace-0", format!("policy-{number}")),
        pod_selector: selector(number),
        isolates: Isolates { ingress: true, egress: false },
        ingress: vec![
            Rule { peers: Peers::Of(vec![next]), ports: port(8080) },
            Rule { peers: Peers::Of(vec![Peer::IpBlock(IpBlock { cidr, except: Vec::new() })]), ports: port(9090) },
        ],
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

/// Seconds that `check` takes.
fn median(file: &Path) -> f64 {
    let mut samples: Vec<Duration> = (0..RUNS).map(|_| time(file)).collect();
    samples.sort();
    samples.get(RUNS / 2).expect("several runs").as_secs_f64()
}

fn time(file: &Path) -> Duration {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_palisade"));
    let started = Instant::now();
    let status = Command::new(program)
        .args(["check", "--whole-cluster", "--fail-on", "never", "-f"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program");
    assert!(status.success(), "check failed: {status}");
    started.elapsed()
}
