//! Policies that are deleted: with their namespace, before their pods (CVE-2024-7598), or permanently.

use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{Answer, Resource, Verb, deny, ending, namespace};
use serde_json::json;

use crate::faults::agent::within;
use crate::faults::case::{Row, observe};
use crate::faults::scene::{CROWD, LIMIT, Scene, real, wait_listed};

use Resource::{Namespaces, NetworkPolicies, Pods};

/// The deadline for believing a true list.
const BELIEVED: Duration = Duration::from_secs(10);

/// How long the pods of a terminating namespace run in these tests.
const LINGER: Duration = Duration::from_secs(4);

fn shop_ends(scene: &Scene) {
    scene.api.put(ending(namespace("shop", &json!({}))));
    scene.api.put(ending(real(&scene.web)));
    scene.api.delete(NetworkPolicies, "shop", "allow-friends");
}

/// No packet may reach the pod while it exists, and its isolation must end with it.
fn stays_closed_until_its_pods_are_gone(name: &str, fault: &str, inject: impl FnOnce(&Scene)) {
    let scene = Scene::new(name);
    let traffic = scene.traffic();
    inject(&scene);
    observe(Instant::now() + LINGER);
    let leaked = traffic.leaked();
    assert!(scene.is_isolated(&scene.web), "it was opened; {leaked} packets leaked; {}", scene.agent.words());
    scene.put_late();
    let in_step = scene.time_to_step(LIMIT);
    let toll = traffic.stop(&scene);
    Row { name, fault, toll: Some(toll), noticed: None, in_step, note: String::new() }.print();
    assert_eq!(toll.leaked, 0, "of {} packets; {}", toll.sent, scene.agent.words());
    assert!(in_step.is_some(), "changes are not followed; {}", scene.agent.words());
    scene.api.delete(Pods, "shop", "web");
    scene.api.delete(Namespaces, "", "shop");
    scene.agent.wait("end of the isolation", LIMIT, || !scene.is_isolated(&scene.web));
}

#[test]
fn namespace_ends() {
    stays_closed_until_its_pods_are_gone("namespace_ends", "a namespace ends: policies go before pods", shop_ends);
}

#[test]
fn namespace_ends_unheard() {
    // All watches miss it. The watch of policies returns first, with a list; that of namespaces stays down.
    stays_closed_until_its_pods_are_gone(
        "namespace_ends_unheard",
        "a namespace ends while watches are down; the list of policies arrives before that of namespaces",
        |scene| {
            Resource::WATCHED.into_iter().for_each(|kind| scene.api.silence(kind, true));
            shop_ends(scene);
            let start = Instant::now();
            scene.api.expire(NetworkPolicies);
            scene.api.silence(NetworkPolicies, false);
            wait_listed(scene, start, NetworkPolicies);
            observe(Instant::now() + Duration::from_secs(3));
            scene.api.expire(Namespaces);
            scene.api.silence(Namespaces, false);
            scene.api.silence(Pods, false);
        },
    );
}

#[test]
fn namespace_ends_without_an_answer_about_it() {
    stays_closed_until_its_pods_are_gone(
        "namespace_ends_without_an_answer_about_it",
        "a namespace ends while its GET fails and its watch is silent",
        |scene| {
            scene.api.answer(Verb::Get, Namespaces, Answer::Status(500));
            scene.api.silence(Namespaces, true);
            shop_ends(scene);
        },
    );
}

#[test]
#[ignore = "similar to another test; hack/faults runs it"]
fn many_policies_of_an_ending_namespace() {
    const NAME: &str = "many_policies_of_an_ending_namespace";
    let scene = Scene::with(NAME, |api| api.load((0..200).map(|number| deny("shop", &format!("more-{number}")))));
    let traffic = scene.traffic();
    let start = Instant::now();
    scene.delete_policies("shop", "more", 200);
    shop_ends(&scene);
    observe(start + LINGER);
    let asked = scene.api.count_since(start, Verb::Get, Namespaces);
    let isolated = scene.is_isolated(&scene.web);
    let toll = traffic.stop(&scene);
    let note = format!("{asked} questions");
    Row {
        name: NAME,
        fault: "a namespace with 201 policies ends",
        toll: Some(toll),
        noticed: None,
        in_step: None,
        note,
    }
    .print();
    assert!(isolated && toll.leaked == 0, "it was opened: {toll:?}; {}", scene.agent.words());
    assert!(asked <= 5, "{asked} questions about one namespace");
}

#[test]
fn permanent_deletions_are_believed() {
    const NAME: &str = "permanent_deletions_are_believed";
    let scene = Scene::new(NAME);
    scene.api.silence(NetworkPolicies, true);
    scene.api.delete(NetworkPolicies, "shop", "allow-friends");
    scene.delete_policies("crowd", "deny", CROWD);
    assert!(scene.api.is_empty(NetworkPolicies));
    let start = Instant::now();
    scene.api.expire(NetworkPolicies);
    scene.api.silence(NetworkPolicies, false);
    wait_listed(&scene, start, NetworkPolicies);
    let believed = within(BELIEVED, || scene.isolated("ingress4").is_empty());
    let note = format!("{} lists", scene.api.count_since(start, Verb::List, NetworkPolicies));
    let fault = "all policies were deleted for good while the watch was down";
    Row { name: NAME, fault, toll: None, noticed: None, in_step: believed, note }.print();
    assert!(believed.is_some(), "still in force after {BELIEVED:?}; {}", scene.agent.words());
    scene.put_late();
    scene.agent.wait("late policy", BELIEVED, || scene.is_in_step());
}

#[test]
fn permanent_deletions_of_pods_are_believed() {
    const NAME: &str = "permanent_deletions_of_pods_are_believed";
    let scene = Scene::new(NAME);
    scene.api.silence(Pods, true);
    scene.api.delete(Pods, "shop", "web");
    for number in 0..CROWD {
        scene.api.delete(Pods, "crowd", &format!("paper-{number:06}"));
    }
    let start = Instant::now();
    scene.api.expire(Pods);
    scene.api.silence(Pods, false);
    wait_listed(&scene, start, Pods);
    let believed = within(BELIEVED, || !scene.is_isolated(&scene.web));
    let note = format!("{} lists", scene.api.count_since(start, Verb::List, Pods));
    let fault = "most pods were deleted for good while the watch was down";
    Row { name: NAME, fault, toll: None, noticed: None, in_step: believed, note }.print();
    assert!(believed.is_some(), "still in force after {BELIEVED:?}; {}", scene.agent.words());
}

#[test]
#[ignore = "takes half a minute"]
fn unanswered_question_holds_a_deletion_and_no_longer() {
    const NAME: &str = "unanswered_question_holds_a_deletion_and_no_longer";
    let scene = Scene::new(NAME);
    scene.api.answer(Verb::Get, Namespaces, Answer::Hang);
    let start = Instant::now();
    scene.api.delete(NetworkPolicies, "shop", "allow-friends");
    scene.agent.wait("question", LIMIT, || scene.api.count_since(start, Verb::Get, Namespaces) > 0);
    // Other changes are followed meanwhile.
    scene.put_late();
    let in_step = scene.time_to_step(Duration::from_secs(5));
    assert!(in_step.is_some(), "changes of others wait; {}", scene.agent.words());
    assert!(scene.is_isolated(&scene.web), "the delayed deletion was believed");
    scene.api.answer(Verb::Get, Namespaces, Answer::Right);
    let lifted = Instant::now();
    let believed = within(LIMIT, || !scene.is_isolated(&scene.web));
    let fault = "the GET of a namespace hangs, later ones do not";
    let note = format!("{} questions", scene.api.count_since(start, Verb::Get, Namespaces));
    Row { name: NAME, fault, toll: None, noticed: None, in_step: believed, note }.print();
    assert!(believed.is_some(), "still held {:?} after the fault; {}", lifted.elapsed(), scene.agent.words());
}
