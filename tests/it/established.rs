//! `--established keep`: answered flows continue when a policy no longer allows them; new ones do not start.
//!
//! Seen to fail when: the option changes nothing; it allows new flows too.

use std::time::{Duration, Instant};

use crate::common::driven::Driven;
use crate::common::objects::{ingress, namespace, pod, policy};
use palisade_lab::{Flow, Lab, Layout, Listen, Protocol, Stream, probe_all};
use palisade_policy::input::{Change, State};
use palisade_ruleset::render::{Established, Options};

const LIMIT: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(2);

#[test]
fn established_flows_may_be_kept() {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let [client, server] = ["default/client", "default/server"].map(|name| lab.node(1).add_pod(name).unwrap());
    server.serve(&[Listen::tcp(80), Listen::udp(80), Listen::tcp(81), Listen::udp(81)]).unwrap();
    let mut state = State::default();
    state.apply(Change::Namespace(namespace("default", &[])));
    state.apply(Change::Pod(pod("default/client", "node-1", &[], &client.addresses())));
    state.apply(Change::Pod(pod("default/server", "node-1", &[("app", "server")], &server.addresses())));
    let options = Options { established: Established::Keep, ..Options::default() };
    let mut enforcer = Driven::start_with(lab.node(1), &state, &options);

    let flows = |port: u16| {
        let of_family =
            |address| [Protocol::Tcp, Protocol::Udp].map(|protocol| Flow::new(&client, protocol, address, port));
        server.addresses().into_iter().flat_map(of_family).collect::<Vec<_>>()
    };
    let running: Vec<_> = flows(80).iter().map(|flow| Stream::start(flow, EVERY).unwrap()).collect();
    for stream in &running {
        stream.wait_alive(LIMIT).unwrap();
    }
    enforcer.apply([Change::Policy(ingress(policy("default/server", &[("app", "server")]), vec![]))]);
    let closed = Instant::now();

    for stream in &running {
        stream.wait_alive_after(closed + Duration::from_millis(100), LIMIT).unwrap();
    }
    let new = probe_all(&flows(81), Duration::from_secs(1)).unwrap();
    assert!(new.iter().all(|outcome| !outcome.is_reachable()), "a new flow passes: {new:?}");
}
