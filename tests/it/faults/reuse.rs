//! IPs that pass from one pod to another.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use palisade_lab::{Flood, Flow, Sink};
use palisade_testkit::fakeapi::{FakeApi, Resource, namespace, pod, policy};
use serde_json::{Value, json};

use crate::faults::agent::within;
use crate::faults::case::{Row, observe};
use crate::faults::scene::{LIMIT, Scene, Toll, first, full};
use crate::faults::shapes::Random;

/// Ports of the former pod's flows.
const OURS: u16 = 4001;
const THEIRS: u16 = 4002;

/// The deadline for judging new pods by their own policies, including the start of an agent that doubts a list first.
const PROMPT: Duration = Duration::from_secs(10);

/// The time over which packets are counted after a round.
const SAMPLE: Duration = Duration::from_millis(150);

/// An unisolated pod talks to another; its IP passes to an isolated one; the other continues to send.
fn former_flows_pass_nothing(name: &str, fault: &str, away: bool) {
    let mut scene = Scene::new(name);
    let (old, peer) = (first(&scene.friend), first(&scene.client));
    let talk = || {
        let socket = UdpSocket::bind(SocketAddr::new(old, OURS))?;
        socket.send_to(b"hello", SocketAddr::new(peer, THEIRS)).map(drop)
    };
    scene.friend.run(talk).unwrap().unwrap();
    let entries = scene.node().conntrack(&["-L", "-p", "udp", "--orig-port-dst", "4002"]).unwrap();
    assert!(entries.contains("dport=4002"), "there is no flow to delete: {entries}");
    if away {
        scene.agent.kill();
    }
    // This policy never isolates the former pod.
    let heirs = json!({ "podSelector": { "matchLabels": { "app": "heir" } }, "policyTypes": ["Ingress"] });
    scene.api.put(policy("friends", "deny-heir", &heirs));
    scene.api.delete(Resource::Pods, "friends", "friend");
    let heir = pod("friends", "heir", "node-1", &scene.friend.addresses(), &json!({ "app": "heir" }));
    let start = Instant::now();
    scene.api.put(heir);
    if away {
        scene.start_again();
    }
    let (isolated, words) = (|| scene.is_isolated(&scene.friend), || scene.agent.words());
    let in_step = within(LIMIT, isolated);
    assert!(in_step.is_some(), "the new pod is not isolated; {}", words());
    // The new pod's process listens on the former one's port.
    let sink = Sink::open(&scene.friend, old, OURS).unwrap();
    let reply = Flow::udp(&scene.client, old, OURS).from_port(THEIRS);
    let flood = Flood::start(&reply, Some(1000)).unwrap();
    observe(Instant::now() + Duration::from_secs(1));
    let sent = flood.stop();
    scene.lab.settle().unwrap();
    let toll = Toll { sent: sent.sent, leaked: sink.counts(sent.id).received, lost: 0 };
    let note = format!("{:.1} s in all", start.elapsed().as_secs_f64());
    Row { name, fault, toll: Some(toll), noticed: None, in_step, note }.print();
    assert_eq!(toll.leaked, 0, "of {} packets; {}", toll.sent, words());
}

#[test]
fn address_passes_to_an_isolated_pod() {
    former_flows_pass_nothing(
        "address_passes_to_an_isolated_pod",
        "an IP passes to an isolated pod; the former pod's peer continues to send",
        false,
    );
}

#[test]
fn address_passes_while_no_agent_runs() {
    former_flows_pass_nothing("address_passes_while_no_agent_runs", "the same while no agent runs", true);
}

/// Classes of pods with different verdicts: no pod may reach the first, the third may reach the second, all may reach
/// the third.
const CLASSES: [&str; 3] = ["closed", "narrow", "open"];
const OPEN: usize = 2;

/// The chain of an isolated pod while its IP is blocked.
const HELD: &str = "ingress/reused-ip";

fn classes(api: &FakeApi) {
    api.load([namespace("reuse", &json!({}))]);
    let of = |class: &str| json!({ "matchLabels": { "class": class } });
    for (class, rules) in [
        ("closed", json!([])),
        ("narrow", json!([{ "from": [{ "podSelector": of("open") }], "ports": [{ "port": 80 }] }])),
    ] {
        let spec = json!({ "podSelector": of(class), "policyTypes": ["Ingress"], "ingress": rules });
        api.load([policy("reuse", class, &spec)]);
    }
    // One permanent pod of each class, so that its chain and the set of peers exist.
    for (number, class) in CLASSES.into_iter().enumerate() {
        api.load([member(class, stays(number), number)]);
    }
}

fn member(name: &str, address: IpAddr, class: usize) -> Value {
    pod("reuse", name, "node-1", &[address], &json!({ "class": CLASSES[class] }))
}

fn stays(number: usize) -> IpAddr {
    IpAddr::from([10, 42, 1, 201 + u8::try_from(number).unwrap()])
}

/// A pod that is isolated in every second round.
fn mark(round: usize, number: usize) -> Value {
    member(&format!("mark-{number}"), stays(number), if round.is_multiple_of(2) { 0 } else { OPEN })
}

/// An IP and its pod.
struct Place {
    address: IpAddr,
    pod: (String, String),
    class: usize,
}

/// An event of a watch.
enum Event {
    Gone(String, String),
    New(Value),
}

/// The IPs, each of which passes to another pod in each round, and the results.
struct Rounds {
    scene: Scene,
    random: Random,
    places: Vec<Place>,
    chains: [Option<String>; 3],
    pods: usize,
    wrong: Vec<String>,
    slowest: Duration,
    toll: Toll,
}

impl Rounds {
    fn new(name: &str, count: u8) -> Self {
        let scene = Scene::with(name, classes);
        let known = scene.isolated("ingress4");
        let chains = [0, 1, OPEN].map(|class| known.get(&stays(class)).cloned());
        assert!(chains[0].is_some() && chains[0] != chains[1] && chains[OPEN].is_none(), "{known:?}");
        assert!(scene.set_with(stays(OPEN)).contains(&stays(OPEN)), "the peers are in no set");
        let lowest = 200 - count;
        let papers = (lowest..200).map(|low| Place {
            address: IpAddr::from([10, 42, 1, low]),
            pod: ("reuse".into(), format!("none-{low}")),
            class: OPEN,
        });
        // The first is a real pod, for real packets.
        let real = Place { address: first(&scene.friend), pod: ("friends".into(), "friend".into()), class: 0 };
        let places = std::iter::once(real).chain(papers).collect();
        let toll = Toll { sent: 0, leaked: 0, lost: 0 };
        Self {
            scene,
            random: Random::new(7),
            places,
            chains,
            pods: 0,
            wrong: Vec::new(),
            slowest: Duration::ZERO,
            toll,
        }
    }

    /// Passes every IP to a pod of another class. An agent may be killed in between, and restarted a little later.
    fn pass(&mut self, round: usize) {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for (index, place) in self.places.iter_mut().enumerate() {
            // The real one is open every second time, so that it can open flows.
            place.class = match (index, place.class) {
                (0, OPEN) => self.random.below(OPEN),
                (0, _) => OPEN,
                (_, last) => (last + 1 + self.random.below(2)) % 3,
            };
            self.pods += 1;
            // A StatefulSet's pods keep their names.
            let keeps = index % 2 == 1 && round % 3 != 2;
            let name = if keeps { format!("pod-{}", place.address) } else { format!("pod-{}", self.pods) };
            let (space, old) = std::mem::replace(&mut place.pod, ("reuse".into(), name.clone()));
            gone.push(Event::Gone(space, old));
            new.push(Event::New(member(&name, place.address, place.class)));
        }
        let mut events: Vec<Event> = match round % 3 {
            0 => gone.into_iter().zip(new).flat_map(|(gone, new)| [gone, new]).collect(),
            1 => gone.into_iter().rev().chain(new).collect(),
            // For a moment two pods have each IP.
            _ => new.into_iter().chain(gone).collect(),
        };
        // Pods arrive in order: once this one's isolation has changed, all others have arrived.
        events.push(Event::New(mark(round, 3)));
        let killed = (round % 4 == 1).then(|| self.random.below(events.len()));
        let start = Instant::now();
        for (index, event) in events.into_iter().enumerate() {
            if killed == Some(index) {
                self.scene.agent.kill();
            }
            match event {
                Event::Gone(space, name) => drop(self.scene.api.delete(Resource::Pods, &space, &name)),
                Event::New(pod) => self.scene.api.put(pod),
            }
            if killed.is_some_and(|killed| index == killed + 20) {
                self.scene.start_again();
            }
        }
        if self.scene.agent.ended().is_some() {
            self.scene.start_again();
        }
        self.judge(round, start);
    }
    /// Checks the verdicts once the last event is in force, and again when no IP is blocked.
    fn judge(&mut self, round: usize, start: Instant) {
        let marked =
            |mark: usize| self.scene.isolated("ingress4").contains_key(&stays(mark)) == round.is_multiple_of(2);
        let took = within(PROMPT, || marked(3));
        assert!(took.is_some(), "round {round} is not in force; {}", self.scene.agent.words());
        self.slowest = self.slowest.max(start.elapsed());
        // The commit with one mark may be incomplete. It is complete when another commit has the next mark.
        self.scene.api.put(mark(round, 4));
        assert!(within(PROMPT, || marked(4)).is_some(), "no commit is complete; {}", self.scene.agent.words());
        let wrong = self.misjudged(true);
        let open = self.places[0].class == OPEN;
        if !open {
            self.toll.leaked += self.replies();
        }
        let settled = within(PROMPT, || self.misjudged(false).is_empty());
        let later = if settled.is_some() { Vec::new() } else { self.misjudged(false) };
        if open {
            self.talk();
            let (sent, arrived) = (self.toll.sent, self.replies());
            self.toll.lost += (self.toll.sent - sent).saturating_sub(arrived);
        }
        let words = wrong.into_iter().chain(later).map(|what| format!("round {round}: {what}"));
        self.wrong.extend(words);
    }

    /// IPs without the verdicts of their pods; blocked IPs may be closed instead.
    fn misjudged(&self, held: bool) -> Vec<String> {
        // Not in the middle of a commit: the next one comes when flows are deleted.
        let start = Instant::now();
        let judged = loop {
            let judged = self.scene.isolated("ingress4");
            if start.elapsed() > PROMPT || judged.values().all(|chain| !chain.starts_with("scratch/")) {
                break judged;
            }
        };
        let peers = self.scene.set_with(stays(OPEN));
        let wrong = |place: &&Place| {
            let chain = judged.get(&place.address);
            let (isolated, peer) = (place.class != OPEN, peers.contains(&place.address));
            let waits = held && !peer && chain.map(String::as_str) == isolated.then_some(HELD);
            !waits && (chain != self.chains[place.class].as_ref() || peer == isolated)
        };
        let words = |place: &Place| {
            let (chain, class) = (judged.get(&place.address), CLASSES[place.class]);
            format!("{} ({class}): {chain:?}, peer: {}", place.address, peers.contains(&place.address))
        };
        self.places.iter().filter(wrong).map(words).collect()
    }

    /// The real pod opens a flow.
    fn talk(&self) {
        let (own, peer) = (first(&self.scene.friend), first(&self.scene.client));
        let talk = || {
            let socket = UdpSocket::bind(SocketAddr::new(own, OURS))?;
            socket.send_to(b"hello", SocketAddr::new(peer, THEIRS)).map(drop)
        };
        self.scene.friend.run(talk).unwrap().unwrap();
    }

    /// Its peer continues the flow; returns the number of datagrams that arrive.
    fn replies(&mut self) -> u64 {
        let own = first(&self.scene.friend);
        let sink = Sink::open(&self.scene.friend, own, OURS).unwrap();
        let flood = Flood::start(&Flow::udp(&self.scene.client, own, OURS).from_port(THEIRS), Some(1000)).unwrap();
        observe(Instant::now() + SAMPLE);
        let sent = flood.stop();
        self.scene.lab.settle().unwrap();
        self.toll.sent += sent.sent;
        sink.counts(sent.id).received
    }
}

/// Seen to fail when: a reused IP gets the rules of its new pod at once (packets leak), or sets of peers do not follow
/// pods (verdicts are wrong).
#[test]
fn addresses_pass_from_pod_to_pod() {
    const NAME: &str = "addresses_pass_from_pod_to_pod";
    let (count, rounds) = if full() { (120, 42) } else { (20, 4) };
    let mut all = Rounds::new(NAME, count - 1);
    (0..rounds).for_each(|round| all.pass(round));
    let Rounds { pods, wrong, slowest, toll, scene, .. } = all;
    let note = format!("{pods} pairs in {rounds} rounds, {} wrong", wrong.len());
    let fault = "IPs pass between pods with different isolation, agents killed in between";
    Row { name: NAME, fault, toll: Some(toll), noticed: None, in_step: Some(slowest), note }.print();
    let first: Vec<_> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{} verdicts: {first:#?}; {}", wrong.len(), scene.agent.words());
    assert_eq!((toll.leaked, toll.lost), (0, 0), "of {} packets; {}", toll.sent, scene.agent.words());
}
