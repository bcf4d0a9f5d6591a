//! An agent that ends, gracefully or killed, and the next one, under traffic.

use std::net::IpAddr;
use std::thread;

use palisade_lab::{Flood, Flow, Pod, Signal, Sink};
use serde_json::{Value, json};

use crate::agent::bed::{ALLOW, Bed, DENY, pod_manifest};
use crate::common::running::{PAUSE, events};

/// The destination port of the floods.
const PORT: u16 = 5201;

/// Datagrams per second of a denied and of an allowed flood, in each of two families.
const DENIED_RATE: u32 = 30_000;
const ALLOWED_RATE: u32 = 3_000;

const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: ops, labels: {team: friends}}}\n";

/// Keeps a set of the clients in use, whichever pods they are.
const OTHER: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: other, namespace: ops}
spec:
  podSelector: {matchLabels: {app: nobody}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: friends}}, podSelector: {matchLabels: {app: client}}}]}]
";

/// Floods from ops/client, which is allowed, and ops/stranger, which is not, to shop/web in both families.
pub(crate) struct Fire<'a> {
    bed: &'a Bed,
    sinks: Vec<(Sink, [Flood; 2])>,
    excused: u64,
}

impl<'a> Fire<'a> {
    pub(crate) fn open(bed: &'a Bed, stranger: &Pod) -> Self {
        let excused = bed.lab.queue_drops().unwrap();
        let aim = |to: IpAddr| {
            let sink = Sink::open(&bed.web, to, PORT).unwrap();
            let flood = |from: &Pod, rate| Flood::start(&Flow::udp(from, to, PORT), Some(rate)).unwrap();
            (sink, [flood(&bed.client, ALLOWED_RATE), flood(stranger, DENIED_RATE)])
        };
        Self { bed, sinks: bed.web.addresses().into_iter().map(aim).collect(), excused }
    }

    /// Waits until every flood has sent many more packets, and all of them have arrived or been dropped.
    pub(crate) fn go_on(&self) {
        let floods = || self.sinks.iter().flat_map(|(_, floods)| floods);
        let before: Vec<_> = floods().map(Flood::sent).collect();
        while floods().zip(&before).any(|(flood, before)| flood.sent() < before + u64::from(ALLOWED_RATE) / 4) {
            thread::sleep(PAUSE);
        }
        self.bed.lab.settle().unwrap();
    }

    /// Ends the floods. Returns the denied datagrams that arrived, the allowed ones that did not, and the numbers sent
    /// of each.
    ///
    /// Packets that full queues dropped do not count as lost; the lab counts them, and there may be only a few.
    pub(crate) fn cease(self) -> (u64, u64, [u64; 2]) {
        let (mut leaked, mut lost, mut sent) = (0, 0, [0; 2]);
        let mut sinks = Vec::new();
        for (sink, [allowed, denied]) in self.sinks {
            sinks.push((sink, allowed.stop(), denied.stop()));
        }
        self.bed.lab.settle().unwrap();
        let mut excused = self.bed.lab.queue_drops().unwrap() - self.excused;
        for (sink, allowed, denied) in &sinks {
            excused += sink.socket_drops().unwrap();
            leaked += sink.counts(denied.id).received;
            lost += sink.counts(allowed.id).missing(allowed.sent);
            sent = [sent[0] + allowed.sent, sent[1] + denied.sent];
            assert_eq!(allowed.refused, 0);
        }
        assert!(
            excused < sent[0] / 100,
            "{excused} packets dropped by full queues: too many to know what else is lost"
        );
        (leaked, lost.saturating_sub(excused), sent)
    }
}

/// The lines of the two base chains in a listing, with their handles.
fn base_chains(listing: &str) -> Vec<&str> {
    let chain = |name: &str| {
        let begin = listing.find(&format!("\tchain {name} {{")).unwrap();
        let end = listing[begin..].find("\n\t}").unwrap();
        listing[begin..begin + end].lines()
    };
    chain("forward").chain(chain("input")).collect()
}

/// The last commit in the log.
fn last_commit(bed: &Bed) -> Value {
    events(&bed.log()).into_iter().rfind(|event| event["message"] == "committed").unwrap()
}

#[test]
fn nothing_leaks_and_nothing_is_lost_while_agents_restart() {
    let bed = Bed::new("restart");
    let stranger = bed.node().add_pod("ops/stranger").unwrap();
    bed.write("stranger.yaml", &pod_manifest(&stranger));
    bed.write("namespace.yaml", NAMESPACE);
    bed.write("deny.yaml", DENY);
    bed.write("allow.yaml", ALLOW);
    bed.write("other.yaml", OTHER);
    let mut agent = bed.agent();
    agent.wait_ready();
    let fire = Fire::open(&bed, &stranger);
    fire.go_on();
    let before = bed.handles();
    assert!(before.contains("jump ingress/shop/deny-all_web-allow"), "{before}");
    let base = base_chains(&before).join("\n");
    assert!(base.contains("hook forward") && base.contains("hook input"), "{base}");

    // Terminated and killed: the rules stay, and the next agent finds nothing to do.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let status = agent.end(signal);
        assert_eq!(status.code(), (signal != Signal::SIGKILL).then_some(0), "{status}");
        fire.go_on();
        assert_eq!(bed.handles(), before);
        agent = bed.agent();
        agent.wait_ready();
        fire.go_on();
        assert_eq!(bed.handles(), before);
        let commit = last_commit(&bed);
        assert_eq!((&commit["kind"], &commit["operations"]), (&json!("full"), &json!(0)), "{commit}");
    }
    for message in ["terminated", "interrupted"] {
        assert_eq!(bed.logged(&format!("{message}; the ruleset stays, and `palisade cleanup` removes it")), 1);
    }

    // Meanwhile labels and rules change such that the new labels with the old rules would allow the stranger: no packet
    // may meet that combination. Correct parts are not touched.
    agent.end(Signal::SIGKILL);
    bed.write("pods.yaml", &bed.pod_manifests().replace("\"app\":\"client\"", "\"app\":\"customer\""));
    bed.write("stranger.yaml", &pod_manifest(&stranger).replace("\"app\":\"stranger\"", "\"app\":\"client\""));
    bed.write("allow.yaml", &ALLOW.replace("app: client", "app: customer"));
    fire.go_on();
    let agent = bed.agent();
    agent.wait_ready();
    fire.go_on();
    assert!(last_commit(&bed)["operations"].as_u64().unwrap() > 0);
    let after = bed.handles();
    assert!(after.contains("app=customer") && after != before, "{after}");
    assert_eq!(base_chains(&after).join("\n"), base);

    let (leaked, lost, [allowed, denied]) = fire.cease();
    println!("{denied} denied, {leaked} leaked, {allowed} allowed, {lost} lost");
    assert_eq!((leaked, lost), (0, 0), "of {denied} denied and {allowed} allowed datagrams");
}
