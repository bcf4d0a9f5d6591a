//! An API server that gives wrong answers, for seconds.

use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{Answer, FakeApi, Resource, Shown, Verb, deny, namespace};
use serde_json::json;

use crate::faults::case::{BRIEF, Case, Row, cases, contradicted, doubted, failing, observe};
use crate::faults::scene::{LIMIT, Scene, paper};

use Resource::{Namespaces, NetworkPolicies, Pods};

/// The deadline for a doubted list to be counted and requested again.
const DOUBT: Duration = Duration::from_secs(8);

/// The time after which a second list has arrived, with a margin.
const PAST_THE_SECOND: Duration = Duration::from_secs(8);

/// The next list of a kind is false; later ones are true.
fn once(scene: &Scene, resource: Resource, shown: Shown) {
    scene.api.show_next(resource, [shown]);
    scene.api.expire(resource);
}

/// All lists of a kind are false from now on.
fn for_ever(scene: &Scene, resource: Resource, shown: Shown) {
    scene.api.show(resource, shown);
    scene.api.expire(resource);
}

/// The objects of another cluster: none of this one, `kube-system` included.
fn strangers(resource: Resource) -> Shown {
    Shown::Instead(match resource {
        Pods => (0..5).map(|number| paper("elsewhere", number)).collect(),
        Namespaces => vec![namespace("elsewhere", &json!({}))],
        _ => vec![deny("elsewhere", "deny")],
    })
}

/// Sets the answer to every request of these kinds.
fn everything(scene: &Scene, answer: &Answer) {
    scene.api.answer_all(answer);
    scene.api.cut_connections();
}

fn nothing_wrong(scene: &Scene) {
    scene.api.answer_all(&Answer::Right);
    scene.put_late();
}

/// Lists of policies are wrong from now on.
fn lists_of_policies(scene: &Scene, answer: Answer) {
    scene.api.answer(Verb::List, NetworkPolicies, answer);
    scene.api.expire(NetworkPolicies);
}

/// Several pages of pods.
fn many_pods(api: &FakeApi) {
    api.load((100..1300).map(|number| paper("crowd", number)));
}

/// Restores an older state of etcd, in which the agent's versions are in the future.
fn restore(scene: &Scene) {
    let backup = scene.api.backup();
    scene.api.advance(1000);
    // Every watch gets this afterwards, so that its next version is newer than the backup.
    scene.api.put(namespace("ops", &json!({ "restored": "no" })));
    scene.api.put(paper("crowd", 1));
    scene.put_late();
    scene.agent.wait("late policy", LIMIT, || scene.is_in_step());
    scene.api.restore(&backup);
    scene.agent.wait("connection", LIMIT, || scene.api.connections() > 0);
}

/// The restore deletes the late policy, so another one must be followed.
fn after_restore(scene: &Scene) {
    scene.agent.wait("deletion of the policy that the backup lacks", LIMIT, || !scene.is_in_step());
    scene.put_late();
}

cases! {
    empty_list_of_policies_once: Case {
        fault: "an empty list of policies, then true ones",
        inject: |scene| once(scene, NetworkPolicies, Shown::Nothing),
        noticed: Some((|scene| doubted(scene, NetworkPolicies), DOUBT)),
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    empty_list_of_pods_once: Case {
        fault: "an empty list of pods, then true ones",
        inject: |scene| once(scene, Pods, Shown::Nothing),
        noticed: Some((|scene| doubted(scene, Pods), DOUBT)),
        ..BRIEF
    };
    empty_list_of_namespaces_once: Case {
        fault: "an empty list of namespaces, then true ones",
        inject: |scene| once(scene, Namespaces, Shown::Nothing),
        noticed: Some((|scene| doubted(scene, Namespaces), DOUBT)),
        ..BRIEF
    };
    cut_list_of_pods_once: Case {
        fault: "a list of pods without its second half, then true ones",
        inject: |scene| once(scene, Pods, Shown::First(3)),
        noticed: Some((|scene| doubted(scene, Pods), DOUBT)),
        ..BRIEF
    };
    list_without_the_last_isolating_policy_once: Case {
        fault: "a list of policies without the only one that isolates a pod here, then true ones",
        inject: |scene| once(scene, NetworkPolicies, Shown::First(crate::faults::scene::CROWD)),
        noticed: Some((|scene| doubted(scene, NetworkPolicies), DOUBT)),
        ..BRIEF
    };
    empty_lists_of_policies_for_ever: Case {
        fault: "all lists of policies are empty from now on; GETs return single policies",
        inject: |scene| for_ever(scene, NetworkPolicies, Shown::Nothing),
        lasts: PAST_THE_SECOND,
        noticed: Some((|scene| contradicted(scene, NetworkPolicies), DOUBT)),
        ..BRIEF
    };
    cut_lists_of_pods_for_ever: Case {
        fault: "all lists of pods lack their second half from now on; GETs return single pods",
        inject: |scene| for_ever(scene, Pods, Shown::First(3)),
        lasts: PAST_THE_SECOND,
        noticed: Some((|scene| contradicted(scene, Pods), DOUBT)),
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    empty_lists_of_namespaces_for_ever: Case {
        fault: "all lists of namespaces are empty from now on; GETs return single namespaces",
        inject: |scene| for_ever(scene, Namespaces, Shown::Nothing),
        lasts: PAST_THE_SECOND,
        noticed: Some((|scene| contradicted(scene, Namespaces), DOUBT)),
        ..BRIEF
    };
    empty_lists_for_ever_and_nobody_answers: Case {
        fault: "all lists of policies are empty from now on, and GETs of single ones fail",
        inject: |scene| {
            scene.api.answer(Verb::Get, NetworkPolicies, Answer::Status(500));
            for_ever(scene, NetworkPolicies, Shown::Nothing);
        },
        lasts: PAST_THE_SECOND,
        noticed: Some((|scene| doubted(scene, NetworkPolicies), DOUBT)),
        ..BRIEF
    };
    lists_that_contradict_each_other: Case {
        fault: "lists of policies and pods, each cut differently from the one before",
        inject: |scene| {
            for resource in [NetworkPolicies, Pods] {
                scene.api.show(resource, Shown::Alternating(10));
                scene.api.expire(resource);
            }
        },
        lift: |scene| {
            for resource in [NetworkPolicies, Pods] {
                scene.api.show(resource, Shown::All);
            }
            scene.put_late();
        },
        // The second list comes after three seconds.
        lasts: Duration::from_secs(7),
        noticed: Some((|scene| doubted(scene, NetworkPolicies) || doubted(scene, Pods), DOUBT)),
        lists: 5,
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    wrong_cluster_once: Case {
        fault: "lists of another cluster, of every kind, then true ones",
        inject: |scene| Resource::WATCHED.into_iter().for_each(|kind| once(scene, kind, strangers(kind))),
        noticed: Some((|scene| Resource::WATCHED.into_iter().all(|kind| doubted(scene, kind)), DOUBT)),
        ..BRIEF
    };
    restored_etcd: Case {
        fault: "etcd restored: versions in the future are refused",
        inject: restore,
        lift: after_restore,
        lists: 4,
        ..BRIEF
    };
    forbidden_policies: Case {
        fault: "403 for lists and watches of policies",
        inject: |scene| {
            scene.api.answer(Verb::Watch, NetworkPolicies, Answer::Status(403));
            lists_of_policies(scene, Answer::Status(403));
        },
        lift: nothing_wrong,
        noticed: Some((|scene| failing(scene, NetworkPolicies), LIMIT)),
        lists: 10,
        ..BRIEF
    };
    server_errors: Case {
        fault: "503 for every request",
        inject: |scene| everything(scene, &Answer::Status(503)),
        lift: nothing_wrong,
        noticed: Some((|scene| Resource::WATCHED.into_iter().all(|kind| failing(scene, kind)), LIMIT)),
        lists: 10,
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    connections_closed: Case {
        fault: "every request's connection is closed",
        inject: |scene| everything(scene, &Answer::Close),
        lift: nothing_wrong,
        lists: 10,
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    connections_refused: Case {
        fault: "connections are refused",
        inject: |scene| {
            scene.api.refuse_connections();
            scene.api.cut_connections();
        },
        lift: |scene| {
            scene.api.accept_connections().unwrap();
            scene.put_late();
        },
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    garbage_instead_of_lists: Case {
        fault: "lists and watches of policies are answered by a proxy's welcome page",
        inject: |scene| {
            scene.api.answer(Verb::Watch, NetworkPolicies, Answer::Garbage);
            lists_of_policies(scene, Answer::Garbage);
        },
        lift: nothing_wrong,
        noticed: Some((|scene| failing(scene, NetworkPolicies), LIMIT)),
        lists: 10,
        ..BRIEF
    };
    mangled_event: Case {
        fault: "the line of one event is cut in half",
        inject: |scene| {
            scene.api.mangle_next(NetworkPolicies);
            scene.put_late();
        },
        lasts: Duration::ZERO,
        lift: |_| {},
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    list_expires_while_it_is_read: Case {
        fault: "410 on every second page of pods",
        prepare: many_pods,
        inject: |scene| {
            scene.api.answer(Verb::Page, Pods, Answer::Expired);
            scene.api.expire(Pods);
        },
        lift: nothing_wrong,
        lists: 6,
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    server_that_ignores_limits: Case {
        fault: "lists come in one page, whatever the requested limit",
        prepare: many_pods,
        inject: |scene| {
            scene.api.ignore_limits(true);
            scene.api.expire(Pods);
        },
        ..BRIEF
    };
    #[ignore = "similar to another test; hack/faults runs it"]
    lists_come_a_byte_at_a_time: Case {
        fault: "a list of policies that takes five seconds, byte by byte",
        inject: |scene| lists_of_policies(scene, Answer::Dribble(Duration::from_micros(500))),
        lift: nothing_wrong,
        ..BRIEF
    };
    history_is_gone: Case {
        fault: "410 for every open watch, once",
        inject: |scene| Resource::WATCHED.into_iter().for_each(|kind| scene.api.expire(kind)),
        lists: 2,
        ..BRIEF
    };
    #[ignore = "takes a minute"]
    watches_expire_at_once: Case {
        fault: "410 for every watch, at its start",
        inject: |scene| {
            for kind in Resource::WATCHED {
                scene.api.answer(Verb::Watch, kind, Answer::Expired);
                scene.api.expire(kind);
            }
        },
        lift: nothing_wrong,
        lasts: Duration::from_secs(10),
        lists: 3,
        ..BRIEF
    };
}

#[test]
fn agent_starts_again_among_false_lists() {
    const NAME: &str = "agent_starts_again_among_false_lists";
    let mut scene = Scene::new(NAME);
    let traffic = scene.traffic();
    for kind in Resource::WATCHED {
        scene.api.show_next(kind, [Shown::Nothing]);
    }
    scene.start_again();
    scene.agent.wait_ready();
    let noticed = Resource::WATCHED.into_iter().any(|kind| doubted(&scene, kind));
    scene.put_late();
    let in_step = scene.time_to_step(LIMIT);
    let toll = traffic.stop(&scene);
    let fault = "the agent starts again, and the first list of every kind is empty";
    Row { name: NAME, fault, toll: Some(toll), noticed: None, in_step, note: format!("doubted: {noticed}") }.print();
    assert_eq!((toll.leaked, toll.lost), (0, 0), "of {} packets; {}", toll.sent, scene.agent.words());
    assert!(in_step.is_some(), "changes are not followed; {}", scene.agent.words());
}

#[test]
fn agent_starts_again_among_lists_that_stay_false() {
    const NAME: &str = "agent_starts_again_among_lists_that_stay_false";
    let mut scene = Scene::new(NAME);
    let traffic = scene.traffic();
    for kind in [NetworkPolicies, Pods] {
        scene.api.show(kind, Shown::Nothing);
    }
    let start = Instant::now();
    scene.start_again();
    let is_noticed =
        || contradicted(&scene, Pods) && scene.agent.get("/readyz").is_some_and(|(status, _)| status == 503);
    let noticed = crate::faults::agent::within(LIMIT, is_noticed);
    observe(start + PAST_THE_SECOND + DOUBT);
    let (isolated, toll) = (scene.is_isolated(&scene.web), traffic.stop(&scene));
    let fault =
        "the agent starts again, and all lists of policies and pods are empty from now on; GETs return single ones";
    Row { name: NAME, fault, toll: Some(toll), noticed, in_step: None, note: String::new() }.print();
    assert_eq!((toll.leaked, toll.lost), (0, 0), "of {} packets; {}", toll.sent, scene.agent.words());
    assert!(isolated && noticed.is_some(), "{}", scene.agent.words());
}
