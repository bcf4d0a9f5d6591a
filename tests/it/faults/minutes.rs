//! Faults that are reported after a minute, so each test takes two. `hack/faults --all` runs them.

use std::time::Duration;

use palisade_testkit::fakeapi::{Answer, Resource, Verb, node};

use crate::faults::agent::within;
use crate::faults::case::{BRIEF, Case, Row, cases, failing, unheard};
use crate::faults::scene::{LIMIT, Scene};

use Resource::{Namespaces, NetworkPolicies, Pods};

/// The deadline for reporting that a kind is silent. Its last contact is up to half a minute ago.
const NOTICE: Duration = Duration::from_secs(62);

/// A fault that lasts longer than it may go unnoticed.
const LONG: Case = Case { lasts: Duration::from_secs(65), lists: 4, lift: nothing_wrong, ..BRIEF };

fn hang(scene: &Scene, verb: Verb, resource: Resource, answer: Answer) {
    scene.api.answer(verb, resource, answer);
    scene.api.expire(resource);
}

/// Hanging requests keep hanging; new ones are answered.
fn nothing_wrong(scene: &Scene) {
    scene.api.answer_all(&Answer::Right);
    scene.put_late();
}

cases! {
    #[ignore = "takes two minutes"]
    list_without_answer: Case {
        fault: "a list of policies that is never answered",
        inject: |scene| hang(scene, Verb::List, NetworkPolicies, Answer::Hang),
        noticed: Some((|scene| unheard(scene, NetworkPolicies), NOTICE)),
        ..LONG
    };
    #[ignore = "takes two minutes"]
    list_that_stops_halfway: Case {
        fault: "a list of policies that stops in the middle",
        inject: |scene| hang(scene, Verb::List, NetworkPolicies, Answer::HangInside),
        noticed: Some((|scene| unheard(scene, NetworkPolicies), NOTICE)),
        ..LONG
    };
    #[ignore = "takes two minutes"]
    list_of_pods_without_answer: Case {
        fault: "a list of pods that is never answered",
        inject: |scene| hang(scene, Verb::List, Pods, Answer::Hang),
        noticed: Some((|scene| unheard(scene, Pods), NOTICE)),
        ..LONG
    };
    #[ignore = "takes two minutes"]
    watch_without_answer: Case {
        fault: "a watch of policies that is never answered",
        inject: |scene| hang(scene, Verb::Watch, NetworkPolicies, Answer::Hang),
        noticed: Some((|scene| unheard(scene, NetworkPolicies), NOTICE)),
        ..LONG
    };
    #[ignore = "takes two minutes"]
    watch_that_stops_after_its_head: Case {
        fault: "a watch of policies that sends nothing after its head",
        inject: |scene| hang(scene, Verb::Watch, NetworkPolicies, Answer::HangInside),
        noticed: Some((|scene| unheard(scene, NetworkPolicies), NOTICE)),
        ..LONG
    };
    #[ignore = "takes two minutes"]
    watch_of_namespaces_without_answer: Case {
        fault: "a watch of namespaces that is never answered",
        inject: |scene| hang(scene, Verb::Watch, Namespaces, Answer::Hang),
        noticed: Some((|scene| unheard(scene, Namespaces), NOTICE)),
        ..LONG
    };
    #[ignore = "takes two minutes"]
    silent_watches: Case {
        fault: "open watches that send nothing: no event, no bookmark, no end",
        inject: |scene| Resource::WATCHED.into_iter().for_each(|kind| scene.api.silence(kind, true)),
        noticed: Some((|scene| Resource::WATCHED.into_iter().all(|kind| unheard(scene, kind)), NOTICE)),
        lift: |scene| {
            for kind in Resource::WATCHED {
                scene.api.silence(kind, false);
            }
            scene.put_late();
        },
        ..LONG
    };
    #[ignore = "takes two minutes"]
    storm_of_expiries: Case {
        fault: "410 for every watch at its start, for a minute",
        inject: |scene| {
            for kind in Resource::WATCHED {
                hang(scene, Verb::Watch, kind, Answer::Expired);
            }
        },
        // One at once, and one a minute.
        lists: 3,
        ..LONG
    };
    #[ignore = "takes two minutes"]
    server_errors_for_a_minute: Case {
        fault: "503 for every request, for a minute",
        inject: |scene| {
            scene.api.answer_all(&Answer::Status(503));
            scene.api.cut_connections();
        },
        noticed: Some((|scene| Resource::WATCHED.into_iter().all(|kind| failing(scene, kind)), NOTICE)),
        lists: 12,
        ..LONG
    };
}

#[test]
#[ignore = "takes up to seven minutes"]
fn node_gets_another_pod_range() {
    const NAME: &str = "node_gets_another_pod_range";
    let scene = Scene::new(NAME);
    // Ranges are in the table while an isolated pod is starting.
    scene.api.put(palisade_testkit::fakeapi::pod("shop", "starting", "node-1", &[], &serde_json::json!({})));
    let holds = |range: &str| {
        let listed = scene.node().namespace().output("nft", &["list", "table", "inet", "palisade"], "");
        listed.is_ok_and(|text| text.contains(range))
    };
    let (own, _) = scene.node().pod_ranges();
    scene.agent.wait("own range", LIMIT, || holds(&own));
    scene.api.put(node("node-1", &["10.77.0.0/16", "fd77::/64"]));
    let took = within(Duration::from_secs(7 * 60), || holds("10.77.0.0/16"));
    Row {
        name: NAME,
        fault: "the node gets another podCIDR",
        toll: None,
        noticed: None,
        in_step: took,
        note: String::new(),
    }
    .print();
    assert!(took.is_some(), "the new range is not blocked; {}", scene.agent.words());
}

#[test]
#[ignore = "takes a minute"]
fn quiet_cluster_is_no_fault() {
    const NAME: &str = "quiet_cluster_is_no_fault";
    let scene = Scene::new(NAME);
    // Bookmarks once a minute, as a real server sends them, and nothing else.
    scene.api.bookmarks(Some(LIMIT));
    let alarm = within(Duration::from_secs(130), || !scene.agent.is_ready());
    Row {
        name: NAME,
        fault: "a quiet cluster: no events",
        toll: None,
        noticed: alarm,
        in_step: None,
        note: "an alarm would be false".into(),
    }
    .print();
    assert_eq!(alarm, None, "readiness was lost without a fault; {}", scene.agent.words());
    assert_eq!(scene.api.count(Verb::List, Pods), 1, "pods were listed again");
}
