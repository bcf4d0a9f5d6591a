//! The requests and log lines that a user's actions cause.

use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{Answer, Resource, Verb, deny, policy_with};
use serde_json::json;

use crate::faults::agent::within;
use crate::faults::case::{Row, observe};
use crate::faults::scene::{LIMIT, Scene};

use Resource::{Events, Namespaces, NetworkPolicies};

/// The time over which requests are counted.
const WINDOW: Duration = Duration::from_secs(3);

fn row(name: &str, fault: &str, note: String) {
    Row { name, fault, toll: None, noticed: None, in_step: None, note }.print();
}

#[test]
fn deletions_of_many_policies_are_one_question() {
    const NAME: &str = "deletions_of_many_policies_are_one_question";
    let scene = Scene::new(NAME);
    let policies = || scene.agent.metric("palisade_policies", "").unwrap_or_default();
    let before = policies();
    let mut asked = Vec::new();
    for answer in [Answer::Right, Answer::Status(503)] {
        (0..300).for_each(|number| scene.api.put(deny("shop", &format!("more-{number}"))));
        scene.agent.wait("policies", LIMIT, || policies() >= before + 300.0);
        scene.api.answer(Verb::Get, Namespaces, answer);
        let start = Instant::now();
        scene.delete_policies("shop", "more", 300);
        observe(start + WINDOW);
        asked.push(scene.api.count_since(start, Verb::Get, Namespaces));
        scene.api.answer(Verb::Get, Namespaces, Answer::Right);
        let gone = within(LIMIT, || policies() <= before);
        assert!(gone.is_some(), "deleted policies are still in force; {}", scene.agent.words());
    }
    row(
        NAME,
        "300 policies of one namespace are deleted; again with 503 for GETs",
        format!("{asked:?} GETs in 3 s each"),
    );
    assert!(asked[0] <= 5, "{} questions about one namespace", asked[0]);
    assert!(asked[1] <= 10, "{} questions in {WINDOW:?} while they fail", asked[1]);
}

#[test]
fn bad_terms_of_others_cost_no_request() {
    const NAME: &str = "bad_terms_of_others_cost_no_request";
    let scene = Scene::new(NAME);
    let bad = json!([{ "from": [{ "ipBlock": { "cidr": "1.2.3.4/33" } }] }]);
    let start = Instant::now();
    (0..100).for_each(|number| scene.api.put(policy_with("elsewhere", &format!("bad-{number}"), &bad)));
    scene.put_late();
    scene.agent.wait("late policy", LIMIT, || scene.is_in_step());
    observe(start + WINDOW);
    let asked =
        scene.api.count_since(start, Verb::Get, NetworkPolicies) + scene.api.count_since(start, Verb::Create, Events);
    row(NAME, "100 policies with a bad term select no pod of this node", format!("{asked} requests in 3 s"));
    assert_eq!(asked, 0, "requests about policies that select no pod here");
    // A policy that does select a pod gets an Event.
    scene.api.put(policy_with("shop", "bad", &bad));
    scene.agent.wait("Event", LIMIT, || !scene.api.events().is_empty());
    assert_eq!(scene.api.events()[0]["involvedObject"]["name"], "bad");
}

#[test]
fn bad_terms_fill_no_log() {
    const NAME: &str = "bad_terms_fill_no_log";
    let scene = Scene::new(NAME);
    let bad: Vec<_> =
        (0..2000).map(|n| json!({ "ipBlock": { "cidr": format!("1.{}.{}.0/33", n / 256, n % 256) } })).collect();
    let before = scene.agent.log().len();
    for edit in 0..5 {
        let mut policy = policy_with("shop", "bad", &json!([{ "from": bad }]));
        policy["metadata"]["labels"] = json!({ "edit": edit.to_string() });
        scene.api.put(policy);
        // Each edit is a separate event.
        scene.api.put(deny("ops", "late"));
        scene.agent.wait("edit", LIMIT, || scene.is_in_step());
        scene.api.delete(NetworkPolicies, "ops", "late");
        scene.agent.wait("deletion", LIMIT, || !scene.is_in_step());
    }
    let (lines, bytes) = (scene.agent.log().lines().count(), scene.agent.log().len() - before);
    row(
        NAME,
        "a policy with 2,000 bad terms is edited five times",
        format!("{lines} lines, {} KiB of log", bytes >> 10),
    );
    assert!(bytes < 64 << 10, "{lines} lines, {bytes} bytes of log");
}
