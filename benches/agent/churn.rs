//! Events, and what an agent makes of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use palisade_policy::input::{Addresses, NamespacedName, Object, Pod};
use palisade_testkit::cluster::policy;
use palisade_testkit::fakeapi::{FakeApi, Resource};
use palisade_testkit::generate::object;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::notices::{Commit, Notices, PALISADE};
use crate::numbers::Samples;
use crate::process::{Agent, LIMIT};
use crate::rows::Rows;
use crate::workload::{CROWD, CROWD_PODS, Workload, crowd_pod, served_pod};

/// An event is over when the agent has not committed for this long: longer than a wait for packets in flight.
const QUIET: Duration = Duration::from_millis(60);

/// An agent in a cluster that changes.
pub(crate) struct Scene<'a> {
    pub(crate) workload: Workload,
    pub(crate) api: &'a FakeApi,
    pub(crate) agent: &'a Agent,
    notices: Notices,
}

/// What an event caused.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    /// From before the API server takes the event to the notice of the first commit, and of the last.
    pub(crate) first: Duration,
    last: Duration,
    commits: usize,
    elements: usize,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(workload: Workload, bed: &'a Bed, agent: &'a Agent) -> Self {
        let notices = Notices::listen(&bed.namespace, PALISADE);
        // The rules of the verdict cache come a moment after the first commit.
        notices.until_quiet(QUIET);
        Self { workload, api: &bed.api, agent, notices }
    }

    /// What changes of single objects cause, each after the effect of the one before.
    pub(crate) fn effects(&self, objects: Vec<Value>) -> Vec<Effect> {
        objects.into_iter().map(|object| self.effect(|api| api.put(object))).collect()
    }

    /// What a change of the objects causes.
    pub(crate) fn effect(&self, change: impl FnOnce(&FakeApi)) -> Effect {
        self.notices.forget();
        let started = Instant::now();
        change(self.api);
        let Some(first) = self.notices.next(LIMIT) else { panic!("no commit; {}", self.agent.log()) };
        let commits: Vec<_> = std::iter::once(first).chain(self.notices.until_quiet(QUIET)).collect();
        let after = |commit: Option<&Commit>| commit.map_or(Duration::ZERO, |commit| commit.at - started);
        Effect {
            first: after(commits.first()),
            last: after(commits.last()),
            elements: commits.iter().map(|commit| commit.elements).sum(),
            commits: commits.len(),
        }
    }
}

/// One kind of event, which turns into its opposite each time.
struct Kind {
    id: &'static str,
    /// Targets in milliseconds: the median and the 99th percentile of the first commit, the latter of the last commit,
    /// and the CPU time.
    targets: [Option<f64>; 4],
    event: fn(Workload, usize) -> Value,
}

const POD: [Option<f64>; 4] = [Some(0.3), Some(2.0), None, Some(0.3)];

const KINDS: [Kind; 4] = [
    Kind { id: "remote pod relabelled", targets: POD, event: relabel_remote },
    Kind { id: "local pod relabelled", targets: POD, event: |of, round| relabel(of, 17, round) },
    Kind { id: "remote pod created", targets: POD, event: create },
    Kind { id: "policy edited", targets: [None, Some(5.0), Some(20.0), None], event: edit },
];

/// Single events, one after the other: each begins when the last is over.
pub(crate) fn single(rows: &mut Rows, scene: &Scene<'_>, rounds: usize) {
    for Kind { id, targets: [median, high, last, cpu], event } in KINDS {
        let id = format!("{}/{id}", scene.workload.name());
        let objects: Vec<_> = (0..rounds).map(|round| event(scene.workload, round)).collect();
        let before = scene.agent.cpu();
        let effects = scene.effects(objects);
        let cost = (scene.agent.cpu() - before) / as_number(rounds);
        show(rows, &id, &effects, [median, high, last]);
        rows.add(&format!("{id}/CPU"), "ms per event", cost, None, cpu);
    }
}

fn show(rows: &mut Rows, id: &str, effects: &[Effect], [median, high, last]: [Option<f64>; 3]) {
    let samples = Samples::milliseconds(effects.iter().map(|effect| &effect.first));
    rows.median(&format!("{id}/first commit, median"), "ms", &samples, median);
    rows.add(&format!("{id}/first commit, 99 %"), "ms", samples.quantile(0.99), None, high);
    let samples = Samples::milliseconds(effects.iter().map(|effect| &effect.last));
    rows.median(&format!("{id}/last commit, median"), "ms", &samples, None);
    rows.add(&format!("{id}/last commit, 99 %"), "ms", samples.quantile(0.99), None, last);
    let of = |number: fn(&Effect) -> usize| Samples::of(effects.iter().map(|effect| as_number(number(effect))));
    rows.median(&format!("{id}/commits"), "batches", &of(|effect| effect.commits), None);
    rows.median(&format!("{id}/elements"), "elements", &of(|effect| effect.elements), None);
}

/// A namespace of 1,000 pods changes its team, and is deleted in the end with all its pods.
pub(crate) fn namespace(rows: &mut Rows, scene: &Scene<'_>, rounds: usize) {
    let relabel = |round: usize| {
        let team = if round.is_multiple_of(2) { "team-2" } else { "team-1" };
        let labels = json!({ "team": team, "kubernetes.io/metadata.name": CROWD });
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": CROWD, "labels": labels } })
    };
    let effects = scene.effects((0..rounds).map(relabel).collect());
    show(rows, "W2/namespace of 1,000 pods relabelled", &effects, [None, None, Some(25.0)]);
    let pods: Vec<String> = (0..CROWD_PODS).map(|number| crowd_pod(number).key.name.to_string()).collect();
    let pods = pods.iter().map(|name| (Resource::Pods, CROWD, name.as_str()));
    let gone: Vec<_> = pods.chain([(Resource::Namespaces, "", CROWD)]).collect();
    let effect = scene.effect(|api| api.put_at_once([], &gone));
    show(rows, "W2/namespace of 1,000 pods deleted", &[effect], [None; 3]);
}

/// Heartbeats: pods change in what no policy needs.
pub(crate) fn heartbeats(rows: &mut Rows, scene: &Scene<'_>, rounds: usize) {
    let (workload, agent) = (scene.workload, scene.agent);
    scene.notices.forget();
    let before = agent.cpu();
    for round in 0..rounds {
        let mut pod = served_pod(&workload.pod(workload.size().pods - 2));
        pod["metadata"]["annotations"] = json!({ "heartbeat": round.to_string() });
        scene.api.put(pod);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(scene.notices.next(Duration::from_millis(50)).is_none(), "a heartbeat changes nothing");
    let cost = (agent.cpu() - before) / as_number(rounds);
    rows.add(&format!("{}/nothing changes/CPU", workload.name()), "ms per event", cost, None, Some(0.05));
}

/// Many pods are created at this rate; the times are those of each pod's own first element in the kernel.
pub(crate) fn burst(rows: &mut Rows, scene: &Scene<'_>, pods: usize, per_second: u32) {
    let (workload, agent) = (scene.workload, scene.agent);
    scene.notices.forget();
    let (begin, before) = (Instant::now(), agent.cpu());
    let mut sent: BTreeMap<[u8; 4], Instant> = BTreeMap::new();
    for number in 0..pods {
        let pod = new_pod(workload, 100_000 + number);
        let Some(IpAddr::V4(address)) = pod.addresses.iter().next() else { panic!("the pod has no IPv4 address") };
        let object = served_pod(&pod);
        wait_for_turn(begin, number, per_second);
        sent.insert(address.octets(), Instant::now());
        scene.api.put(object);
    }
    let mut times = Vec::new();
    while !sent.is_empty() {
        let Some(commit) = scene.notices.next(LIMIT) else { panic!("{} pods are lost", sent.len()) };
        let done = commit.added.iter().filter_map(|address| sent.remove(address));
        times.extend(done.map(|since| commit.at.saturating_duration_since(since)));
    }
    let id = format!("{}/{pods} pods created, {per_second} a second", workload.name());
    let samples = Samples::milliseconds(&times);
    rows.median(&format!("{id}/median"), "ms", &samples, None);
    rows.add(&format!("{id}/99 %"), "ms", samples.quantile(0.99), None, Some(50.0));
    rows.add(&format!("{id}/CPU"), "ms per event", (agent.cpu() - before) / as_number(pods), None, None);
}

/// Pods are deleted and others get their IPs, at this rate.
pub(crate) fn rolling(rows: &mut Rows, scene: &Scene<'_>, pods: usize, per_second: u32) {
    let (workload, agent) = (scene.workload, scene.agent);
    let (begin, before) = (Instant::now(), agent.cpu());
    for number in 0..pods {
        let old = workload.pod(workload.size().pods - 100 - u32::try_from(number).expect("few pods"));
        let key = NamespacedName { name: format!("{}-next", old.key.name).into(), ..old.key.clone() };
        let next = served_pod(&Pod { key, ..old.clone() });
        wait_for_turn(begin, number, per_second);
        scene.api.delete(Resource::Pods, &old.key.namespace, &old.key.name);
        scene.api.put(next);
    }
    scene.notices.until_quiet(Duration::from_millis(200));
    let cost = (agent.cpu() - before) / as_number(2 * pods);
    let id = format!("{}/pods replaced, {per_second} a second, the IP kept/CPU", workload.name());
    rows.add(&id, "ms per event", cost, None, None);
}

/// Waits until an event of this number is due at this rate.
fn wait_for_turn(begin: Instant, number: usize, per_second: u32) {
    let due = begin + Duration::from_secs(1) * u32::try_from(number).expect("few events") / per_second;
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// The last pod's labels change, and back.
pub(crate) fn relabel_remote(workload: Workload, round: usize) -> Value {
    relabel(workload, workload.size().pods - 1, round)
}

/// A pod's labels change, and back.
fn relabel(workload: Workload, number: u32, round: usize) -> Value {
    let mut pod = workload.pod(number);
    let (app, tier) = if round.is_multiple_of(2) { ("app-1", "tier-2") } else { ("app-0", "tier-0") };
    pod.labels.extend([("app".to_owned(), app.to_owned()), ("tier".to_owned(), tier.to_owned())]);
    served_pod(&pod)
}

fn create(workload: Workload, round: usize) -> Value {
    served_pod(&new_pod(workload, round))
}

/// A pod that was not there before, on another node.
pub(crate) fn new_pod(workload: Workload, number: usize) -> Pod {
    let number = u32::try_from(number).expect("few pods");
    let like = workload.pod(workload.size().local_pods + number % 100);
    let address = IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes([10, 112, 0, 0]) + number));
    let key = NamespacedName { name: format!("new-{number}").into(), ..like.key.clone() };
    Pod { key, addresses: Addresses::accept([address]).0, ..like }
}

/// The ports of a rule change, of a policy that isolates local pods.
fn edit(workload: Workload, round: usize) -> Value {
    let mut object = object(&Object::Policy(policy(workload.size(), 17)));
    let port = if round.is_multiple_of(2) { 8081 } else { 8080 };
    object["spec"]["ingress"][1]["ports"][0]["port"] = json!(port);
    object
}

pub(crate) fn as_number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}
