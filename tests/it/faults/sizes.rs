//! The cost of one user, or of a large cluster, for an agent. Small here; `hack/faults --all` uses the full sizes of
//! the budgets.

use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{FakeApi, Resource, Verb, deny, namespace, pod, policy};
use serde_json::{Value, json};

use crate::faults::agent::{Agent, Setup, within};
use crate::faults::case::{Row, observe};
use crate::faults::scene::{LIMIT, Scene, first, full, paper, real};
use crate::faults::shapes::{SHAPES, grown};

use Resource::{NetworkPolicies, Pods};

/// The memory limit in MiB above which an agent is killed, to spare the machine.
const MOST_MEMORY: u64 = 1500;

/// The factor by which a debug build may be slower.
fn slack() -> u32 {
    if full() { 1 } else { 5 }
}

fn row(name: &str, fault: &str, in_step: Option<Duration>, note: String) {
    Row { name, fault, toll: None, noticed: None, in_step, note }.print();
}

/// Waits for a condition, and returns the time it took and the peak memory meanwhile. Gives up on an agent that takes
/// too much memory.
fn unless_too_large(agent: &Agent, limit: Duration, condition: impl Fn() -> bool) -> (Option<Duration>, u64) {
    let too_large = || agent.memory("VmHWM") > MOST_MEMORY;
    let took = within(limit, || condition() || too_large());
    let peak = agent.memory("VmHWM");
    if peak > MOST_MEMORY {
        agent.kill();
        return (None, peak);
    }
    (took, peak)
}

/// Small policies of one namespace, each with a different peer and port. One of them selects all of its pods.
fn small(number: usize) -> Value {
    let from = json!([{ "podSelector": { "matchLabels": { "k": format!("v{number}") } } }]);
    let rules = json!([{ "from": from, "ports": [{ "port": 1000 + number % 50 }] }]);
    policy("shop", &format!("small-{number:05}"), &json!({ "podSelector": {}, "ingress": rules }))
}

#[test]
fn many_policies_of_one_pod() {
    const NAME: &str = "many_policies_of_one_pod";
    let count = if full() { 10_000 } else { 500 };
    let mut scene = Scene::set_up(NAME, |api| api.load((0..count).map(small)), Setup::default());
    let mut dead = 0;
    let mut enforced = None;
    let limit = Duration::from_secs(60);
    while enforced.is_none() && scene.agent.started().elapsed() < limit && scene.agent.memory("VmHWM") < MOST_MEMORY {
        enforced = within(Duration::from_millis(500), || scene.is_isolated(&scene.web))
            .map(|_| scene.agent.started().elapsed());
        // It may not listen yet.
        dead += usize::from(scene.agent.get("/livez").is_some_and(|(status, _)| status != 200));
    }
    let peak = scene.agent.memory("VmHWM");
    let note = format!("{count} policies: peak {peak} MiB, livez failed {dead} times");
    row(NAME, "a namespace has many policies for one pod when the agent starts", enforced, note);
    assert_eq!(dead, 0, "liveness failed");
    assert!(enforced.is_some_and(|took| took < Duration::from_secs(10)), "in force after {enforced:?}");
    assert!(peak < 256, "{peak} MiB");
    // Again, from the table in the kernel.
    scene.start_again();
    scene.agent.wait_ready();
}

#[test]
fn others_while_policies_pour_in() {
    const NAME: &str = "others_while_policies_pour_in";
    let count = if full() { 10_000 } else { 300 };
    let scene = Scene::new(NAME);
    let api = &scene.api;
    let delays = std::thread::scope(|scope| {
        scope.spawn(move || (0..count).for_each(|number| api.put(small(number))));
        scene.delays(if full() { 200 } else { 20 })
    });
    let p99 = delays[delays.len() * 99 / 100 - 1];
    let most = delays[delays.len() - 1];
    row(
        NAME,
        "events of another namespace while one gets many policies",
        Some(p99),
        format!("{count} policies; most {most:.2?}"),
    );
    assert!(p99 < Duration::from_millis(200) * slack(), "p99 {p99:?}");
}

fn crowd(api: &FakeApi, pods: usize, policies: usize) {
    const SPACES: usize = 100;
    api.load(
        (0..SPACES)
            .map(|number| namespace(&format!("space-{number}"), &json!({ "team": format!("team-{}", number % 7) }))),
    );
    api.load((0..pods).map(|number| paper(&format!("space-{}", number % SPACES), 1000 + number)));
    api.load((0..policies).map(|number| {
        let labels = |value: String| json!({ "matchLabels": { "app": value } });
        let rules = json!([{ "from": [{ "podSelector": labels(format!("app-{}", number % 10)) }] }]);
        let spec = json!({ "podSelector": labels(format!("app-{}", (number + 1) % 10)), "ingress": rules });
        policy(&format!("space-{}", number % SPACES), &format!("policy-{number}"), &spec)
    }));
}

#[test]
fn unchanged_objects_are_listed_again() {
    const NAME: &str = "unchanged_objects_are_listed_again";
    let (pods, policies) = if full() { (100_000, 10_000) } else { (3_000, 300) };
    let scene = Scene::set_up(NAME, |api| crowd(api, pods, policies), Setup::default());
    scene.agent.wait("readiness", LIMIT * 3, || scene.agent.is_ready());
    let operations = || scene.agent.metric("palisade_commit_operations_total", "").unwrap_or_default();
    wait_calm(&scene);
    let (memory, before) = (scene.agent.memory("VmRSS"), operations());
    list_again(&scene, NetworkPolicies);
    wait_calm(&scene);
    let written = operations() - before;
    // The other kind, with events in between.
    scene.api.expire(Pods);
    let start = Instant::now();
    let mut most = Duration::ZERO;
    while scene.api.count_since(start, Verb::List, Pods) == 0 || start.elapsed() < Duration::from_secs(6) {
        most = most.max(scene.delays(2)[1]);
    }
    let after = scene.agent.memory("VmHWM");
    let note = format!("{pods} pods, {policies} policies: {written} operations, {memory} -> {after} MiB");
    row(NAME, "lists of unchanged objects", Some(most), note);
    assert!(written.abs() < f64::EPSILON, "{written} operations were committed");
    assert!(most < Duration::from_secs(1) * slack(), "an event waited for {most:?}");
    assert!(after * 10 <= memory * 13 + 80, "{memory} -> {after} MiB");
}

fn list_again(scene: &Scene, kind: Resource) {
    let pages = || scene.api.count(Verb::List, kind) + scene.api.count(Verb::Page, kind);
    let (start, before) = (Instant::now(), pages());
    scene.api.expire(kind);
    scene.agent.wait("list", LIMIT, || scene.api.count_since(start, Verb::Watch, kind) > 0 && pages() > before);
}

/// Waits until the agent has nothing to do: it uses no processor time for a second.
fn wait_calm(scene: &Scene) {
    let deadline = Instant::now() + LIMIT * 2;
    loop {
        let before = scene.agent.used();
        observe(Instant::now() + Duration::from_secs(1));
        if scene.agent.used() <= before + Duration::from_millis(30) {
            return;
        }
        assert!(Instant::now() < deadline, "the agent never rests; {}", scene.agent.words());
    }
}

#[test]
fn large_policies_of_every_shape() {
    let bytes = if full() { 1_500_000 } else { 24 << 10 };
    let mut failures = Vec::new();
    for (seed, (name, shape)) in (1..).zip(SHAPES) {
        let directions = [("ingress", "from", "Ingress"), ("egress", "to", "Egress")];
        // One direction is enough if time is short.
        let chosen = directions.into_iter().zip(0..).filter(|(_, number)| full() || number % 2 == seed % 2);
        for ((direction, peers, types), _) in chosen {
            let rules = grown(shape, peers, bytes, seed);
            let spec = json!({ "podSelector": {}, "policyTypes": [types], direction: rules });
            let failure = large(&format!("{name}, {direction}"), &policy("ops", "large", &spec));
            failures.extend(failure);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Writes a policy for ops/client; returns the error in its effect.
fn large(name: &str, policy: &Value) -> Option<String> {
    let scene = Scene::new("large");
    let idle = scene.agent.memory("VmRSS");
    let direction = if policy["spec"]["policyTypes"][0] == "Egress" { "egress4" } else { "ingress4" };
    let size = policy.to_string().len() >> 10;
    scene.api.put(policy.clone());
    let client = first(&scene.client);
    let limit = Duration::from_secs(20);
    let (took, peak) = unless_too_large(&scene.agent, limit, || scene.isolated(direction).contains_key(&client));
    let note = format!("{size} KiB, {idle} -> {peak} MiB");
    row(&format!("large_policies_of_every_shape ({name})"), "one policy as large as an API server accepts", took, note);
    let prompt = took.is_some_and(|took| took < Duration::from_secs(2) * slack());
    let small = peak <= idle + 256;
    (!(prompt && small)).then(|| format!("{name}: {size} KiB in force after {took:?}, {idle} -> {peak} MiB"))
}

#[test]
fn two_pods_are_swapped_with_a_large_policy() {
    const NAME: &str = "two_pods_are_swapped_with_a_large_policy";
    let count = if full() { 3_200 } else { 200 };
    let rules: Value = (0..count)
        .map(|n| {
            let unlike = json!([{ "key": "k", "operator": "NotIn", "values": [format!("v{n}")] }]);
            json!({ "from": [{ "podSelector": { "matchExpressions": unlike } }], "ports": [{ "port": 2 * n + 2 }] })
        })
        .collect();
    let other = |name: &str, low: u8| pod("shop", name, "node-2", &[[10, 43, 0, low].into()], &json!({}));
    // The last event has a visible effect: it isolates ops/client.
    let marked = json!({ "podSelector": { "matchLabels": { "app": "marked" } } });
    let scene = Scene::with(NAME, |api| {
        let large = policy("shop", "large", &json!({ "podSelector": {}, "ingress": rules }));
        api.load([other("one", 1), large, policy("ops", "marked", &marked)]);
    });
    wait_calm(&scene);
    let mut client = real(&scene.client);
    client["metadata"]["labels"]["app"] = json!("marked");
    let start = Instant::now();
    scene.api.put_at_once([other("one", 3), other("two", 2), client], &[]);
    let took = scene.time_to_step(LIMIT).map(|_| start.elapsed());
    row(NAME, "a pod is swapped for another next to a policy of many rules", took, format!("{count} rules"));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1) * slack()), "{took:?}; {}", scene.agent.words());
}

#[test]
fn large_pods_elsewhere() {
    const NAME: &str = "large_pods_elsewhere";
    let count = if full() { 500 } else { 60 };
    let scene = Scene::set_up(
        NAME,
        |api| {
            api.load((0..count).map(|number| {
                let mut large = paper("crowd", 1000 + number);
                let value = "x".repeat(100_000);
                let variables: Value = (0..10).map(|n| json!({ "name": format!("E{n}"), "value": value })).collect();
                large["spec"]["containers"][0]["env"] = variables;
                large
            }));
        },
        Setup::default(),
    );
    let ready = within(LIMIT * 2, || scene.agent.is_ready());
    list_again(&scene, Pods);
    let in_step = within(LIMIT, || {
        scene.api.put(deny("ops", "late"));
        scene.is_in_step()
    });
    let peak = scene.agent.memory("VmHWM");
    row(NAME, "pods of 1 MB each are listed, twice", in_step, format!("{count} pods: peak {peak} MiB"));
    assert!(ready.is_some() && in_step.is_some(), "{}", scene.agent.words());
    assert!(peak < 100, "{peak} MiB");
}
