//! The agent may be killed between any two steps: at its start, at a change, while another agent catches up. In
//! whatever state the table is then, no packet passes that every state denies, and none is lost that every state
//! allows.
//!
//! `PALISADE_KILLS` sets the number of kills.
//!
//! Seen to fail when the next engine rebuilds the table instead of adding what it lacks.

use std::time::{Duration, Instant};

use crate::common::driven::Driven;
use crate::common::objects::{egress, ingress, key, namespace, pod, pods, policy, port, rule};
use palisade_lab::{Flood, Flow, Lab, Layout, Sink};
use palisade_policy::input::{Change, Protocol, State};
use palisade_ruleset::render::Options;

/// The port of all packets.
const PORT: u16 = 7000;
const KILLS: usize = 120;
/// Rate of the allowed stream, low enough not to fill queues.
const ALLOWED_RATE: u32 = 15_000;
/// Time limit for another engine to catch up, on a busy machine.
const CAUGHT_UP: Duration = Duration::from_secs(1);

#[test]
fn between_any_two_steps() {
    let kills = std::env::var("PALISADE_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let lab = Lab::builder().nodes(1, Layout::Bridge).build().unwrap();
    let [server, allowed, denied] =
        ["default/server", "default/allowed", "default/denied"].map(|name| lab.node(1).add_pod(name).unwrap());
    let of = |name: &str, labels: &[(&str, &str)]| {
        let lab_pod = [&server, &allowed, &denied].into_iter().find(|pod| pod.name() == name).unwrap();
        Change::Pod(pod(name, "node-1", labels, &lab_pod.addresses()))
    };
    let clients = |role: &str| rule(vec![pods(&[("role", role)])], vec![port(Protocol::Udp, PORT)]);
    let server_policy = |roles: &[&str]| {
        let rules = roles.iter().map(|role| clients(role)).collect();
        Change::Policy(ingress(policy("default/server", &[("app", "server")]), rules))
    };
    let more = Change::Policy(ingress(policy("default/more", &[("app", "server")]), vec![clients("c")]));
    let closed = Change::Policy(egress(policy("default/closed", &[("role", "x")]), vec![]));
    // Each state leads to the next, and the last to the first; all deny the one client and allow the other.
    let cycle = [
        vec![of("default/allowed", &[("role", "b")])],
        vec![server_policy(&["b"])],
        vec![more, closed],
        vec![of("default/server", &[("app", "server"), ("version", "2")]), server_policy(&["a", "b", "d"])],
        vec![Change::PolicyGone(key("default/more")), of("default/allowed", &[("role", "a")])],
        vec![Change::PolicyGone(key("default/closed")), server_policy(&["a", "b"])],
    ];
    let mut state = State::default();
    let start = [
        Change::Namespace(namespace("default", &[])),
        of("default/server", &[("app", "server")]),
        of("default/allowed", &[("role", "a")]),
        of("default/denied", &[("role", "x")]),
        server_policy(&["a", "b"]),
    ];
    start.into_iter().for_each(|change| state.apply(change));
    let mut node = Driven::start_with(lab.node(1), &state, &Options::default());

    let address = server.ipv4().unwrap();
    let sink = Sink::open(&server, address, PORT).unwrap();
    let excused = lab.queue_drops().unwrap();
    let denied = Flood::start(&Flow::udp(&denied, address, PORT), None).unwrap();
    let allowed = Flood::start(&Flow::udp(&allowed, address, PORT), Some(ALLOWED_RATE)).unwrap();
    let (mut killed, mut steps, mut longest) = (0, 0, Duration::ZERO);
    while killed < kills {
        let mut within = false;
        for changes in &cycle {
            changes.iter().cloned().for_each(|change| state.apply(change));
            let began = Instant::now();
            within |= node.killed_after(steps, changes.clone(), &state, &Options::default());
            longest = longest.max(began.elapsed());
            killed += 1;
        }
        // After the last step of the longest change, from the first one again.
        steps = if within { steps + 1 } else { 0 };
    }
    let (denied, allowed) = (denied.stop(), allowed.stop());
    lab.settle().unwrap();
    let leaked = sink.counts(denied.id).received;
    let missing = sink.counts(allowed.id).missing(allowed.sent);
    let lost = missing.saturating_sub(lab.queue_drops().unwrap() - excused + sink.socket_drops().unwrap());
    println!(
        "{killed} kills, {} packets denied, {leaked} leaked, {} allowed, {lost} lost, longest {longest:.2?}",
        denied.sent, allowed.sent
    );
    assert_eq!((leaked, lost), (0, 0));
    assert!(longest < CAUGHT_UP, "{longest:?}");
}
