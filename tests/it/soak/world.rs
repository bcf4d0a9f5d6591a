//! The objects of a node, as manifests and as pods of the lab, and the changes to them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use palisade_lab::{Error, Flow as Shot, Lab, Node, Pod, PodSpec, Protocol as LabProtocol};
use palisade_policy::flow::{Endpoint, Flow, Transport};
use palisade_policy::input::{Protocol, State};
use palisade_watch::read_manifests;
use serde_json::{Value, json};

use crate::soak::traffic::{Probe, allows};

pub(crate) const STREAM_PORT: u16 = 7000;

/// How often in a row shots may be late.
const LATE: usize = 5;

const NAMESPACES: [&str; 3] = ["one", "two", "three"];
const APPS: [&str; 4] = ["a", "b", "c", "d"];
const TEAMS: [&str; 3] = ["red", "blue", "green"];
const PORTS: [(LabProtocol, u16); 4] =
    [(LabProtocol::Tcp, 80), (LabProtocol::Udp, 53), (LabProtocol::Tcp, 8080), (LabProtocol::Icmp, 0)];

/// Minimum and maximum of the pods that come and go on the node; policies, and pods on other nodes.
const PODS: std::ops::RangeInclusive<usize> = 4..=10;
const POLICIES: usize = 12;
const ELSEWHERE: usize = 30;

/// Packets after a change.
const PROBES: usize = 40;

/// The pods of the streams, and those that show whether a change is in force.
const STREAM_PODS: [&str; 3] = ["stream/server", "stream/allowed", "stream/denied"];
const MARKER_PODS: [&str; 2] = ["marker/server", "marker/client"];

pub(crate) struct World {
    lab: Lab,
    manifests: PathBuf,
    random: Random,
    /// The pods that come and go.
    pods: BTreeMap<String, Pod>,
    stream: [Pod; 3],
    marker: [Pod; 2],
    marked: bool,
    made: usize,
}

impl World {
    pub(crate) fn new(lab: Lab, manifests: PathBuf, seed: u64) -> Self {
        fs::create_dir_all(&manifests).unwrap();
        let stream = STREAM_PODS.map(|name| lab.node(1).add_pod(name).unwrap());
        let marker = MARKER_PODS.map(|name| lab.node(1).add_pod(name).unwrap());
        let random = Random(seed | 1);
        let mut world = Self { lab, manifests, random, pods: BTreeMap::new(), stream, marker, marked: false, made: 0 };
        for pod in world.stream.iter().chain(&world.marker) {
            let role = pod.name().rsplit('/').next().unwrap();
            world.write(&format!("pod-{}", pod.name()), &pod_manifest(pod.name(), "node-1", role, &pod.addresses()));
        }
        let server = json!({ "podSelector": { "matchLabels": { "app": "server" } }, "ingress": [{
            "from": [{ "podSelector": { "matchLabels": { "app": "allowed" } } }],
            "ports": [{ "protocol": "UDP", "port": STREAM_PORT }],
        }] });
        world.write("policy-stream/server", &policy("stream/server", &server));
        world.turn_marker();
        for _ in 0..*PODS.start() {
            world.add_pod(None);
        }
        NAMESPACES.iter().for_each(|name| world.write_namespace(name, "red"));
        world
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn node(&self) -> &Node {
        self.lab.node(1)
    }

    pub(crate) fn scratch_node(&self) -> &Node {
        self.lab.node(2)
    }

    pub(crate) fn manifests(&self) -> &Path {
        &self.manifests
    }

    pub(crate) fn stream_pods(&self) -> [&Pod; 3] {
        self.stream.each_ref()
    }

    /// The state in the manifests.
    pub(crate) fn state(&self) -> State {
        read_manifests(std::slice::from_ref(&self.manifests)).unwrap().into()
    }

    pub(crate) fn forget_flows(&self) {
        drop(self.node().conntrack(&["-F"]).unwrap());
    }

    pub(crate) fn list(&self) -> String {
        self.node().namespace().output("nft", &["-s", "list", "table", "inet", "palisade"], "").unwrap()
    }

    /// Sends the packets; returns which arrived.
    pub(crate) fn shoot(&self, probes: &[Probe]) -> Vec<bool> {
        let shots: Vec<_> = probes.iter().map(|probe| probe.shot.clone()).collect();
        for _ in 0..LATE {
            match self.lab.shoot(&shots) {
                // Earlier shots were still queued, while an address was being resolved on a busy machine. They arrived
                // under the current rules, so they say nothing about the earlier ones.
                Err(Error::LateShots { .. }) => {}
                result => return result.unwrap(),
            }
        }
        panic!("shots were late {LATE} times in a row");
    }

    /// Makes a random change and describes it.
    pub(crate) fn change(&mut self) -> String {
        match self.random.below(12) {
            0 | 1 => self.relabel_pod(),
            2 if self.pods.len() < *PODS.end() => self.add_pod(None),
            3 if self.pods.len() > *PODS.start() => self.remove_pod().0,
            4 | 5 => {
                let (removed, addresses) = self.remove_pod();
                format!("{removed}; {}", self.add_pod(Some(addresses)))
            }
            6 | 7 => self.write_policy(),
            8 => self.remove_policy(),
            9 => {
                let (name, team) = (self.random.of(&NAMESPACES), self.random.of(&TEAMS));
                self.write_namespace(name, team);
                format!("namespace {name} is of team {team}")
            }
            10 => self.touch_stream_policies(),
            _ => self.change_elsewhere(),
        }
    }

    /// Allows the marker's client if it is denied, and vice versa. Earlier writes are in force when this is.
    pub(crate) fn turn_marker(&mut self) {
        self.marked = !self.marked;
        let rules = if self.marked { json!([{}]) } else { json!([]) };
        let spec = json!({ "podSelector": { "matchLabels": { "app": "server" } }, "ingress": rules });
        self.write("policy-marker/marker", &policy("marker/marker", &spec));
    }

    /// Packets among the current pods: the marker's, and random others.
    pub(crate) fn probes(&mut self, before: &State, after: &State) -> Vec<Probe> {
        let pods: Vec<_> = self.pods.values().cloned().collect();
        let [server, client] = &self.marker;
        let mut wanted = vec![(client.clone(), server.clone(), PORTS[0], false)];
        for _ in 0..PROBES {
            let (from, to) = (self.random.of(&pods), self.random.of(&pods));
            if from.name() != to.name() {
                wanted.push((from.clone(), to.clone(), *self.random.of(&PORTS), self.random.below(2) == 0));
            }
        }
        wanted.iter().map(|(from, to, port, six)| probe((from, to), *port, *six, before, after)).collect()
    }

    fn write(&self, name: &str, object: &Value) {
        let file = format!("{}.json", name.replace('/', "-"));
        let draft = self.manifests.join(format!(".{file}"));
        fs::write(&draft, object.to_string()).unwrap();
        fs::rename(draft, self.manifests.join(file)).unwrap();
    }

    /// Returns whether it existed.
    fn remove(&self, name: &str) -> bool {
        fs::remove_file(self.manifests.join(format!("{}.json", name.replace('/', "-")))).is_ok()
    }

    fn write_namespace(&self, name: &str, team: &str) {
        let metadata = json!({ "name": name, "labels": { "team": team } });
        self.write(
            &format!("namespace-{name}"),
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }),
        );
    }

    /// Adds a pod, at these IPs or at the next free ones.
    fn add_pod(&mut self, addresses: Option<Vec<IpAddr>>) -> String {
        self.made += 1;
        let name = format!("{}/pod-{}", self.random.of(&NAMESPACES), self.made);
        let spec = addresses.into_iter().flatten().fold(PodSpec::new(&name), |spec, address| match address {
            IpAddr::V4(address) => spec.ipv4(address),
            IpAddr::V6(address) => spec.ipv6(address),
        });
        let pod = self.node().add_pod_with(spec).unwrap();
        let app = self.random.of(&APPS);
        self.write(&format!("pod-{name}"), &pod_manifest(&name, "node-1", app, &pod.addresses()));
        let words = format!("pod {name} of app {app} added at {:?}", pod.addresses());
        self.pods.insert(name, pod);
        words
    }

    fn remove_pod(&mut self) -> (String, Vec<IpAddr>) {
        let name = self.any_pod();
        self.node().remove_pod(&name).unwrap();
        let pod = self.pods.remove(&name).unwrap();
        assert!(self.remove(&format!("pod-{name}")));
        (format!("pod {name} removed"), pod.addresses())
    }

    fn relabel_pod(&mut self) -> String {
        let (name, app) = (self.any_pod(), self.random.of(&APPS));
        self.write(&format!("pod-{name}"), &pod_manifest(&name, "node-1", app, &self.pods[&name].addresses()));
        format!("pod {name} is of app {app}")
    }

    fn any_pod(&mut self) -> String {
        let names: Vec<_> = self.pods.keys().cloned().collect();
        self.random.of(&names).clone()
    }

    fn write_policy(&mut self) -> String {
        let name = format!("{}/policy-{}", self.random.of(&NAMESPACES), self.random.below(POLICIES));
        let directions = [("Ingress", "ingress", "from"), ("Egress", "egress", "to")];
        let (kind, direction, peers) = *self.random.of(&directions);
        let mut spec = json!({ "podSelector": self.selector(), "policyTypes": [kind] });
        let rules: Vec<_> = (0..self.random.below(3)).map(|_| self.rule(peers)).collect();
        spec[direction] = json!(rules);
        self.write(&format!("policy-{name}"), &policy(&name, &spec));
        format!("policy {name}: {spec}")
    }

    fn rule(&mut self, peers: &str) -> Value {
        let mut rule = json!({});
        if self.random.below(4) > 0 {
            let peer = |world: &mut Self| match world.random.below(4) {
                0 => json!({ "ipBlock": { "cidr": format!("10.42.1.{}/28", 16 * world.random.below(2)) } }),
                1 => json!({ "namespaceSelector": { "matchLabels": { "team": world.random.of(&TEAMS) } } }),
                2 => json!({ "namespaceSelector": {}, "podSelector": world.selector() }),
                _ => json!({ "podSelector": world.selector() }),
            };
            rule[peers] = (0..=self.random.below(2)).map(|_| peer(self)).collect();
        }
        if self.random.below(2) == 0 {
            let port = [
                json!({ "port": 80 }),
                json!({ "protocol": "UDP", "port": 53 }),
                json!({ "port": 1000, "endPort": 9000 }),
            ];
            rule["ports"] = json!([self.random.of(&port)]);
        }
        rule
    }

    fn selector(&mut self) -> Value {
        if self.random.below(4) == 0 { json!({}) } else { json!({ "matchLabels": { "app": self.random.of(&APPS) } }) }
    }

    fn remove_policy(&mut self) -> String {
        let name = format!("{}/policy-{}", self.random.of(&NAMESPACES), self.random.below(POLICIES));
        if self.remove(&format!("policy-{name}")) { format!("policy {name} removed") } else { self.write_policy() }
    }

    /// Policies of the stream's server that come and go without an effect on the streams.
    fn touch_stream_policies(&mut self) -> String {
        let name = format!("stream/more-{}", self.random.below(3));
        if self.remove(&format!("policy-{name}")) {
            return format!("policy {name} removed");
        }
        let from = json!([{ "namespaceSelector": { "matchLabels": { "team": self.random.of(&TEAMS) } } }]);
        let spec = json!({ "podSelector": { "matchLabels": { "app": "server" } }, "ingress": [{ "from": from }] });
        self.write(&format!("policy-{name}"), &policy(&name, &spec));
        format!("policy {name}: {spec}")
    }

    /// A pod of another node, which is a peer of many and sends nothing here.
    fn change_elsewhere(&mut self) -> String {
        let number = self.random.below(ELSEWHERE);
        let name = format!("{}/elsewhere-{number}", NAMESPACES[number % NAMESPACES.len()]);
        if self.random.below(3) == 0 && self.remove(&format!("pod-{name}")) {
            return format!("pod {name} removed");
        }
        let host = u8::try_from(number + 10).unwrap();
        let addresses = [[10, 42, 9, host].into(), [0xfd42, 9, 0, 0, 0, 0, 0, host.into()].into()];
        let app = self.random.of(&APPS);
        self.write(&format!("pod-{name}"), &pod_manifest(&name, "node-9", app, &addresses));
        format!("pod {name} is of app {app}")
    }
}

fn pod_manifest(name: &str, node: &str, app: &str, addresses: &[IpAddr]) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    let addresses: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": app } },
        "spec": { "nodeName": node },
        "status": { "phase": "Running", "podIPs": addresses },
    })
}

fn policy(name: &str, spec: &Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    let metadata = json!({ "namespace": namespace, "name": name });
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec })
}

fn probe(
    (from, to): (&Pod, &Pod),
    (protocol, port): (LabProtocol, u16),
    six: bool,
    before: &State,
    after: &State,
) -> Probe {
    let address = |pod: &Pod| if six { IpAddr::from(pod.ipv6().unwrap()) } else { pod.ipv4().unwrap().into() };
    let flow = Flow {
        from: Endpoint::Address(address(from)),
        to: Endpoint::Address(address(to)),
        transport: match protocol {
            LabProtocol::Tcp => Transport::Port(Protocol::Tcp, port),
            LabProtocol::Udp => Transport::Port(Protocol::Udp, port),
            LabProtocol::Sctp => Transport::Port(Protocol::Sctp, port),
            LabProtocol::Icmp => Transport::Portless,
        },
        family: None,
    };
    // Packets of a new pod count once the change is in force.
    let was_there = |pod: &Pod| before.pods.keys().any(|key| format!("{}/{}", key.namespace, key.name) == pod.name());
    let allowed = allows(after, &flow);
    let is_unchanged = was_there(from) && was_there(to) && allows(before, &flow) == allowed;
    let shot = Shot::new(from, protocol, address(to), port).from_address(address(from));
    Probe { shot, allowed, is_unchanged }
}

/// Pseudo-random numbers, the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn of<'list, T>(&mut self, list: &'list [T]) -> &'list T {
        &list[self.below(list.len())]
    }
}
