//! Addresses that pass from one pod to another.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use palisade_lab::{Flood, Flow, Sink};
use palisade_testkit::fakeapi::{FakeApi, Resource, namespace, pod, policy};
use serde_json::json;

use crate::agent::within;
use crate::case::{Row, observe};
use crate::scene::{LIMIT, Scene, Toll, first, full};

/// Ports of the conversation that the former pod began.
const OURS: u16 = 4001;
const THEIRS: u16 = 4002;

/// By when a new pod must be judged by its own policies.
const PROMPT: Duration = Duration::from_secs(5);

/// An unisolated pod talks to another; its address passes to an isolated one; the other goes on talking.
fn former_flows_let_nobody_in(name: &str, fault: &str, away: bool) {
    let mut scene = Scene::new(name);
    let (old, peer) = (first(&scene.friend), first(&scene.client));
    let talk = || {
        let socket = UdpSocket::bind(SocketAddr::new(old, OURS))?;
        socket.send_to(b"hello", SocketAddr::new(peer, THEIRS)).map(drop)
    };
    scene.friend.run(talk).unwrap().unwrap();
    let entries = scene.node().conntrack(&["-L", "-p", "udp", "--orig-port-dst", "4002"]).unwrap();
    assert!(entries.contains("dport=4002"), "there is no flow to be forgotten: {entries}");
    if away {
        scene.agent.kill();
    }
    // The former pod is never isolated by it.
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
    // The new pod's process listens where the former one's did.
    let sink = Sink::open(&scene.friend, old, OURS).unwrap();
    let reply = Flow::udp(&scene.client, old, OURS).from_port(THEIRS);
    let flood = Flood::start(&reply, Some(1000)).unwrap();
    observe(Instant::now() + Duration::from_secs(1));
    let sent = flood.stop();
    scene.lab.settle().unwrap();
    let toll = Toll { sent: sent.sent, leaked: sink.counts(sent.id).received, lost: 0 };
    let note = format!("{:.1} s in all", start.elapsed().as_secs_f64());
    Row { name, fault, toll: Some(toll), told: None, in_step, note }.print();
    assert_eq!(toll.leaked, 0, "of {} packets; {}", toll.sent, words());
}

#[test]
fn address_passes_to_an_isolated_pod() {
    former_flows_let_nobody_in(
        "address_passes_to_an_isolated_pod",
        "an address passes to an isolated pod; the former pod's peer goes on",
        false,
    );
}

#[test]
fn address_passes_while_the_agent_is_away() {
    former_flows_let_nobody_in("address_passes_while_the_agent_is_away", "the same while no agent runs", true);
}

/// Three classes of pods, each judged otherwise.
fn classes(api: &FakeApi) {
    api.load([namespace("reuse", &json!({}))]);
    for class in ["closed", "narrow"] {
        let port = if class == "closed" { json!([]) } else { json!([{ "ports": [{ "port": 80 }] }]) };
        let selector = json!({ "matchLabels": { "class": class } });
        let spec = json!({ "podSelector": selector, "policyTypes": ["Ingress"], "ingress": port });
        api.load([policy("reuse", class, &spec)]);
    }
    // One of each that stays, so that its chain is known.
    for (number, class) in ["closed", "narrow"].into_iter().enumerate() {
        api.load([pod("reuse", class, "node-1", &[stays(number)], &json!({ "class": class }))]);
    }
}

fn stays(number: usize) -> IpAddr {
    IpAddr::from([10, 42, 1, 201 + u8::try_from(number).unwrap()])
}

#[test]
fn addresses_pass_from_pod_to_pod() {
    const NAME: &str = "addresses_pass_from_pod_to_pod";
    let pairs = if full() { 5_000 } else { 40 };
    let mut scene = Scene::with(NAME, classes);
    let known = scene.isolated("ingress4");
    let chain = |class: &str| match class {
        "closed" => known.get(&stays(0)).cloned(),
        "narrow" => known.get(&stays(1)).cloned(),
        _ => None,
    };
    assert!(chain("closed").is_some() && chain("closed") != chain("narrow"), "{known:?}");
    let (mut slowest, mut wrong, mut random) = (Duration::ZERO, 0, crate::shapes::Random::new(7));
    let mut classes = BTreeMap::new();
    for pair in 0..pairs {
        let address = IpAddr::from([10, 42, 1, 150 + u8::try_from(random.below(20)).unwrap()]);
        let name = format!("pod-{address}");
        scene.api.delete(Resource::Pods, "reuse", &name);
        // An upgrade, or a crash, just then.
        if random.below(25) == 0 {
            scene.start_again();
            scene.agent.wait_ready();
        }
        // Never that of the pod before, whose verdict would be taken for the new one's.
        let last = classes.get(&address).copied().unwrap_or(2);
        let number = (last + 1 + random.below(2)) % 3;
        classes.insert(address, number);
        let class = ["closed", "narrow", "open"][number];
        let start = Instant::now();
        scene.api.put(pod("reuse", &name, "node-1", &[address], &json!({ "class": class, "pair": pair.to_string() })));
        let right = || scene.isolated("ingress4").get(&address).cloned() == chain(class);
        assert!(
            within(PROMPT, right).is_some(),
            "pair {pair}: {address} is not judged as {class}; {}",
            scene.agent.words()
        );
        slowest = slowest.max(start.elapsed());
        wrong += usize::from(!right());
    }
    let note = format!("{pairs} pairs, slowest {slowest:.2?}, {wrong} wrong afterwards");
    Row {
        name: NAME,
        fault: "addresses pass between pods that are isolated otherwise",
        toll: None,
        told: None,
        in_step: None,
        note,
    }
    .print();
    assert_eq!(wrong, 0, "verdicts became wrong again");
}
