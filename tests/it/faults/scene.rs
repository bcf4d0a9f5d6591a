//! A node with three pods, an API server that has them, an agent, and traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use palisade_lab::{Flood, Flow, Lab, Layout, Node, Pod, Sink};
use palisade_testkit::fakeapi::{FakeApi, Resource, deny, namespace, node, pod, policy, policy_with};
use serde_json::{Value, json};

use crate::faults::agent::{Agent, Setup, within};
use crate::faults::monitor::Monitor;

/// Pods and policies elsewhere, so that lists can be cut.
pub(crate) const CROWD: usize = 20;

/// The deadline of everything that is not a fault.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Datagrams a second of each flow.
const RATE: u32 = 500;

/// The destination port of the datagrams.
const PORT: u16 = 4000;

/// The pods: shop/web is isolated and allows friends/friend, not ops/client.
pub(crate) struct Scene {
    pub(crate) api: FakeApi,
    pub(crate) agent: Agent,
    pub(crate) web: Pod,
    pub(crate) friend: Pod,
    pub(crate) client: Pod,
    scratch: Scratch,
    pub(crate) lab: Lab,
}

/// A directory that is deleted at the end of the test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Whether to use full sizes instead of those for a debug build.
pub(crate) fn full() -> bool {
    std::env::var_os("PALISADE_FAULTS").is_some_and(|size| size == "full")
}

impl Scene {
    /// An agent that is ready.
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    /// The same with additional objects.
    pub(crate) fn with(name: &str, prepare: impl FnOnce(&FakeApi)) -> Self {
        let scene = Self::set_up(name, prepare, Setup::default());
        scene.agent.wait_ready();
        scene
    }

    /// An agent that has just been started.
    pub(crate) fn set_up(name: &str, prepare: impl FnOnce(&FakeApi), setup: Setup) -> Self {
        let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
        let add = |name| lab.node(1).add_pod(name).unwrap();
        let (web, friend, client) = (add("shop/web"), add("friends/friend"), add("ops/client"));
        let place = lab.node(1).clone();
        let api =
            FakeApi::start_where(move |address| place.run(|| TcpListener::bind(address)).map_err(io::Error::other)?);
        let api = api.unwrap();
        let (range4, range6) = lab.node(1).pod_ranges();
        api.load([node("node-1", &[&range4, &range6])]);
        api.load(["kube-system", "default", "shop", "ops", "crowd"].map(|name| namespace(name, &json!({}))));
        api.load([namespace("friends", &json!({ "team": "friends" }))]);
        api.load([&web, &friend, &client].map(real));
        api.load((0..CROWD).map(|number| paper("crowd", number)));
        api.load((0..CROWD).map(|number| deny("crowd", &format!("deny-{number}"))));
        let from = json!([{ "namespaceSelector": { "matchLabels": { "team": "friends" } }, "podSelector": { "matchLabels": { "app": "friend" } } }]);
        api.load([policy_with("shop", "allow-friends", &json!([{ "from": from }]))]);
        prepare(&api);
        let scratch = std::env::temp_dir().join(format!("palisade-faults-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        api.write_kubeconfig(&scratch.join("kubeconfig")).unwrap();
        let agent = Agent::start(lab.node(1), &scratch.join("kubeconfig"), &scratch.join("log"), setup);
        Self { api, agent, web, friend, client, scratch: Scratch(scratch), lab }
    }

    pub(crate) fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// Kills the current agent and starts another.
    pub(crate) fn start_again(&mut self) {
        self.agent.kill();
        let (kubeconfig, log) = (self.scratch.0.join("kubeconfig"), self.scratch.0.join("log"));
        self.agent = Agent::start(self.lab.node(1), &kubeconfig, &log, Setup::default());
    }

    /// The IPv4 addresses that are isolated in a direction, with their chains.
    pub(crate) fn isolated(&self, direction: &str) -> BTreeMap<IpAddr, String> {
        let listing = self.listing(&["map", "inet", "palisade", direction]);
        let maps = listing.iter().filter_map(|item| item["map"]["elem"].as_array());
        let entries = maps.flatten().filter_map(|entry| {
            let verdict = entry[1].as_object()?.values().next()?;
            Some((address(&entry[0])?, verdict["target"].as_str().unwrap_or_default().to_owned()))
        });
        entries.collect()
    }

    /// The IPs in the sets of peers that contain this one.
    pub(crate) fn set_with(&self, peer: IpAddr) -> BTreeSet<IpAddr> {
        let listing = self.listing(&["sets", "table", "inet", "palisade"]);
        let peers = listing.iter().map(|item| &item["set"]).filter(|set| {
            let name = set["name"].as_str().unwrap_or_default();
            name.starts_with("pods/") && name.ends_with("/4")
        });
        let elements = peers.filter_map(|set| set["elem"].as_array());
        let sets = elements.map(|elements| elements.iter().filter_map(address).collect::<BTreeSet<_>>());
        sets.filter(|set| set.contains(&peer)).flatten().collect()
    }

    /// The listing of nft.
    fn listing(&self, what: &[&str]) -> Vec<Value> {
        let listing = self.node().namespace().output("nft", &[&["-j", "list"], what].concat(), "");
        let listing: Value = listing.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        listing["nftables"].as_array().cloned().unwrap_or_default()
    }

    /// Whether a pod is isolated for ingress.
    pub(crate) fn is_isolated(&self, pod: &Pod) -> bool {
        self.isolated("ingress4").contains_key(&first(pod))
    }

    /// Creates the policy that shows whether changes are followed: it isolates ops/client.
    pub(crate) fn put_late(&self) {
        self.api.put(deny("ops", "late"));
    }

    /// Deletes this many policies of a namespace, numbered after a prefix.
    pub(crate) fn delete_policies(&self, space: &str, prefix: &str, count: usize) {
        for number in 0..count {
            let there = self.api.delete(Resource::NetworkPolicies, space, &format!("{prefix}-{number}"));
            assert!(there, "{space}/{prefix}-{number} does not exist");
        }
    }

    /// Whether that policy is in force.
    pub(crate) fn is_in_step(&self) -> bool {
        self.is_isolated(&self.client)
    }

    /// The time until changes are followed.
    pub(crate) fn time_to_step(&self, limit: Duration) -> Option<Duration> {
        within(limit, || self.is_in_step())
    }

    /// The delays of changes from event to kernel: ops/client is alternately isolated and not.
    pub(crate) fn delays(&self, rounds: usize) -> Vec<Duration> {
        let mut delays = Vec::new();
        let client = first(&self.client);
        let monitor = Monitor::start(self.node().namespace());
        for round in 0..rounds {
            let isolating = round % 2 == 0;
            let start = Instant::now();
            if isolating {
                self.api.put(deny("ops", "turn"));
            } else {
                let labels = json!({ "round": round });
                self.api.put(policy("ops", "turn", &json!({ "podSelector": { "matchLabels": labels_of(&labels) } })));
            }
            let seen = monitor.wait_isolated(client, isolating, LIMIT);
            let seen = seen.unwrap_or_else(|| panic!("no turn within {LIMIT:?}; {}", self.agent.words()));
            delays.push(seen.saturating_duration_since(start));
        }
        delays.sort();
        delays
    }

    /// Starts the traffic.
    pub(crate) fn traffic(&self) -> Traffic {
        let sink = Sink::open(&self.web, first(&self.web), PORT).unwrap();
        let flood = |from: &Pod| Flood::start(&Flow::udp(from, first(&self.web), PORT), Some(RATE)).unwrap();
        Traffic { denied: flood(&self.client), allowed: flood(&self.friend), sink }
    }
}

/// The IP of an element, with or without a comment.
fn address(element: &Value) -> Option<IpAddr> {
    element.as_str().or_else(|| element["elem"]["val"].as_str())?.parse().ok()
}

/// Labels must be strings.
fn labels_of(numbers: &Value) -> Value {
    json!({ "round": numbers["round"].to_string() })
}

/// A flow that policies deny and one that they allow.
pub(crate) struct Traffic {
    denied: Flood,
    allowed: Flood,
    sink: Sink,
}

/// The packets' fates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Toll {
    pub(crate) sent: u64,
    /// Datagrams that policies deny and that arrived.
    pub(crate) leaked: u64,
    /// Datagrams that policies allow and that did not arrive.
    pub(crate) lost: u64,
}

impl Traffic {
    /// Datagrams that leaked so far.
    pub(crate) fn leaked(&self) -> u64 {
        self.sink.counts(self.denied.id()).received
    }

    /// Stops and counts.
    pub(crate) fn stop(self, scene: &Scene) -> Toll {
        let (denied, allowed) = (self.denied.stop(), self.allowed.stop());
        scene.lab.settle().unwrap();
        let missing = self.sink.counts(allowed.id).missing(allowed.sent);
        let leaked = self.sink.counts(denied.id).received;
        Toll { sent: denied.sent + allowed.sent, leaked, lost: missing }
    }
}

/// The first IP of a pod.
pub(crate) fn first(pod: &Pod) -> IpAddr {
    pod.ipv4().unwrap().into()
}

/// A pod of the lab as an object, labelled with its name.
pub(crate) fn real(of: &Pod) -> Value {
    let (space, name) = of.name().split_once('/').unwrap();
    pod(space, name, of.node(), &of.addresses(), &json!({ "app": name }))
}

/// A pod of another node that exists only as an object.
pub(crate) fn paper(space: &str, number: usize) -> Value {
    let [_, high, middle, low] = u32::try_from(number).unwrap().to_be_bytes();
    let address = IpAddr::from([10, 100 + high, middle, low]);
    let labels = json!({ "app": format!("app-{}", number % 10), "tier": format!("tier-{}", number % 3) });
    pod(space, &format!("paper-{number:06}"), &format!("node-{}", 2 + number / 250), &[address], &labels)
}

/// Waits until a list of this kind was requested after a moment.
pub(crate) fn wait_listed(scene: &Scene, since: Instant, resource: Resource) {
    let asked = || scene.api.count_since(since, palisade_testkit::fakeapi::Verb::List, resource) > 0;
    scene.agent.wait(&format!("list of {}", resource.name()), LIMIT, asked);
}
