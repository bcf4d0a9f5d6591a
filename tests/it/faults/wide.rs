//! Selectors that select very many pods: a policy within its budget with more elements than a node can have.

use std::time::Duration;

use palisade_testkit::fakeapi::{Resource, policy};
use serde_json::{Value, json};

use crate::faults::agent::{Agent, Setup, within};
use crate::faults::case::Row;
use crate::faults::scene::{LIMIT, Scene, first, full, paper};

/// The memory limit for one user's policies, in MiB above idle.
const MEMORY: u64 = 256;

/// Pods that all of these selectors select, in ops; one of them is local.
fn pods() -> usize {
    if full() { 5_000 } else { 500 }
}

/// More selectors than a namespace may have.
fn selectors() -> usize {
    if full() { 7_000 } else { 1_200 }
}

/// Selects nearly every pod.
fn unlike(number: usize) -> Value {
    let value = format!("v{number}");
    json!({ "podSelector": { "matchExpressions": [{ "key": "k", "operator": "NotIn", "values": [value] }] } })
}

/// A rule for this many of them, on a separate port.
fn rule(number: usize, selectors: impl Iterator<Item = usize>) -> Value {
    json!({ "from": selectors.map(unlike).collect::<Value>(), "ports": [{ "port": 2 + 2 * number }] })
}

fn wide(name: &str, rules: impl Iterator<Item = Value>) -> Value {
    policy("ops", name, &json!({ "podSelector": {}, "ingress": rules.collect::<Value>() }))
}

fn scene(name: &str) -> Scene {
    let load =
        |api: &palisade_testkit::fakeapi::FakeApi| api.load((0..pods()).map(|number| paper("ops", 1000 + number)));
    let scene = Scene::set_up(name, load, Setup::default());
    scene.agent.wait_ready();
    scene
}

fn set_aside(agent: &Agent) -> f64 {
    agent.metric("palisade_policies_quarantined", "budget").unwrap_or_default()
}

/// The time limit, longer for a debug build.
fn limit() -> Duration {
    Duration::from_secs(if full() { 2 } else { 20 })
}

fn print(name: &str, fault: &str, took: Option<Duration>, note: String) {
    Row { name, fault, toll: None, noticed: None, in_step: took, note }.print();
}

#[test]
fn policies_that_select_far_too_many_pods() {
    const NAME: &str = "policies_that_select_far_too_many_pods";
    let many = selectors();
    let apart = |count| (0..count).map(|number| rule(number, std::iter::once(number)));
    let shapes = [
        ("one rule", wide("wide", [rule(0, 0..many)].into_iter()), true),
        ("a rule each", wide("wide", apart(many.min(3_500))), true),
        ("nine of twenty at a time", wide("wide", (0..if full() { 700 } else { 150 }).map(nine_of_twenty)), full()),
        ("nearly as many as may be", wide("wide", apart(100)), false),
    ];
    let mut failures = Vec::new();
    for (shape, policy, is_too_much) in shapes {
        let scene = scene("wide");
        let idle = scene.agent.memory("VmRSS");
        scene.api.put(policy);
        let client = first(&scene.client);
        let took = within(LIMIT, || scene.isolated("ingress4").contains_key(&client));
        let aside = within(Duration::from_secs(5), || set_aside(&scene.agent) > 0.0).is_some();
        let peak = scene.agent.memory("VmHWM");
        let name = format!("{NAME} ({shape})");
        let note = format!("{} pods: {idle} -> {peak} MiB, over the budget: {aside}", pods());
        print(&name, "a policy within its budget selects very many pods", took, note.clone());
        if took.is_none_or(|took| took > limit()) || peak > idle + MEMORY || aside != is_too_much {
            failures.push(format!("{shape}: after {took:?}, {note}; {}", scene.agent.words()));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Different sets of few selectors: as many sets as rules.
fn nine_of_twenty(number: usize) -> Value {
    let first = number % 20;
    let step = [1, 3, 7, 9, 11, 13, 17, 19][number / 20 % 8];
    let without = number / 160;
    rule(number, (0..10).filter(move |n| *n != without).map(move |n| (first + n * step) % 20))
}

#[test]
fn many_policies_that_select_many_pods() {
    const NAME: &str = "many_policies_that_select_many_pods";
    let count: u16 = if full() { 100 } else { 4 };
    let scene = scene(NAME);
    let idle = scene.agent.memory("VmRSS");
    let share = 350_000 / pods();
    let name = |number: usize| format!("wide-{number}");
    let selecting = |number: usize| rule(number, number * share..(number + 1) * share);
    let policies = (0..usize::from(count)).map(|number| wide(&name(number), [selecting(number)].into_iter()));
    scene.api.put_at_once(policies.collect::<Vec<_>>(), &[]);
    let took = within(LIMIT, || scene.is_in_step());
    let others = scene.agent.wait("policies set aside", LIMIT, || set_aside(&scene.agent) >= f64::from(count) - 1.0);
    let peak = scene.agent.memory("VmHWM");
    let note = format!("{count} policies, {} pods: {idle} -> {peak} MiB, others set aside after {others:.2?}", pods());
    print(NAME, "many policies of which a namespace's budget allows one", took, note);
    assert!(took.is_some_and(|took| took < limit() * 2), "{took:?}; {}", scene.agent.words());
    assert!(peak <= idle + MEMORY, "{idle} -> {peak} MiB");
    // Once the others are deleted there is room again.
    for number in 1..usize::from(count) {
        scene.api.delete(Resource::NetworkPolicies, "ops", &name(number));
    }
    scene.agent.wait("the last one in force", LIMIT, || set_aside(&scene.agent) == 0.0);
}
