//! Questions, notices and a node's ranges.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palisade_policy::input::NamespacedName;
use palisade_watch::{ApiServer, Event, Kind, NamespaceAnswer, Notice, ObjectAnswer, Request};
use serde_json::json;

use super::{Watching, hasty, quick};
use crate::unruly::server::{Reply, Server, Verb, calm, namespace, refusal};

impl Watching {
    fn answers(&self) -> BTreeMap<&str, Vec<&NamespaceAnswer>> {
        let mut answers = BTreeMap::<_, Vec<_>>::new();
        for event in &self.others {
            if let Event::NamespaceAnswer { name, answer, .. } = event {
                answers.entry(&**name).or_default().push(answer);
            }
        }
        answers
    }
}

#[tokio::test]
async fn namespaces_are_asked_for_once_each_and_a_few_at_a_time() {
    let server = Server::start("questions", |asked| match asked.verb {
        Verb::Get => Reply::After(Duration::from_millis(20), Box::new(Reply::Json(200, namespace("x", true)))),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until_listed().await;
    for round in 0..5 {
        for number in 0..40 {
            // The first four are in flight in the first round, and asked again once.
            if round == 0 || number >= 4 {
                watching.requests.send(Request::Namespace(format!("n{number}").into())).await.unwrap();
            }
        }
    }
    watching.until("answers", |now| now.answers().len() == 40).await;
    assert_eq!(server.busiest(), 4);
    let got = server.seen(|asked| asked.verb == Verb::Get);
    // Some were answered before the last round asked for them.
    assert!((40..=80).contains(&got.len()), "{} questions for 40 namespaces", got.len());
    assert!(
        watching.answers().values().all(|answers| matches!(answers[0], NamespaceAnswer::Present(n) if n.terminating))
    );
}

#[tokio::test]
async fn a_question_during_a_request_gets_a_later_answer() {
    let server = Server::start("later", |asked| match (asked.verb, asked.number) {
        (Verb::Get, number) => {
            Reply::After(Duration::from_millis(100), Box::new(Reply::Json(200, namespace("x", number > 0))))
        }
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until_listed().await;
    watching.requests.send(Request::Namespace("x".into())).await.unwrap();
    watching.until("asked", |_| server.seen(|asked| asked.verb == Verb::Get).len() == 1).await;
    let learned = Instant::now();
    watching.requests.send(Request::Namespace("x".into())).await.unwrap();
    watching.until("both", |now| now.answers().get("x").is_some_and(|answers| answers.len() == 2)).await;
    let asked = watching.others.iter().filter_map(|event| match event {
        Event::NamespaceAnswer { asked, answer: NamespaceAnswer::Present(n), .. } => {
            Some((*asked > learned, n.terminating))
        }
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [(false, false), (true, true)]);
}

#[tokio::test]
async fn an_answer_is_waited_for_but_not_a_right() {
    let server = Server::start("patience", |asked| match (asked.verb, &*asked.path, asked.number) {
        (Verb::Get, "/api/v1/namespaces/secret", _) => refusal(403, "Forbidden", "no"),
        (Verb::Get, "/api/v1/namespaces/busy", 0) => refusal(503, "ServiceUnavailable", "later"),
        (Verb::Get, "/api/v1/namespaces/busy", _) => Reply::Json(200, namespace("busy", false)),
        (Verb::Get, "/api/v1/namespaces/hung", 0) => Reply::Never,
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, hasty()).await;
    for name in ["secret", "busy", "hung"] {
        watching.requests.send(Request::Namespace(name.into())).await.unwrap();
    }
    watching.until("answers", |now| now.answers().len() == 3).await;
    assert_eq!(watching.answers()["secret"], [&NamespaceAnswer::Refused]);
    assert!(matches!(watching.answers()["busy"][..], [NamespaceAnswer::Present(n)] if !n.terminating));
    assert_eq!(watching.answers()["hung"], [&NamespaceAnswer::Absent]);
    let busy = server.seen(|asked| asked.path.ends_with("/busy"));
    assert_eq!(busy.len(), 2, "within a request nothing is retried");
    assert!(busy[1].at - busy[0].at >= Duration::from_millis(900), "{:?}", busy[1].at - busy[0].at);
}

#[tokio::test]
async fn objects_are_asked_for_by_kind_and_name() {
    let server = Server::start("objects", |asked| match (asked.verb, &*asked.path, asked.number) {
        (Verb::Get, "/api/v1/namespaces/n/pods/there", _) => Reply::Json(200, object("there")),
        (Verb::Get, "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies/there", 0) => {
            Reply::Json(200, object("another"))
        }
        (Verb::Get, "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies/there", _) => {
            Reply::Json(200, object("there"))
        }
        // A proxy's page, not an API server's answer.
        (Verb::Get, "/api/v1/namespaces/n/pods/behind", 0) => Reply::Json(404, json!({"message": "no such page"})),
        (Verb::Get, "/api/v1/namespaces/n/pods/behind", _) => Reply::Json(200, object("behind")),
        (Verb::Get, "/api/v1/namespaces/there", _) => Reply::Json(200, namespace("there", true)),
        (Verb::Get, "/api/v1/namespaces/n/pods/secret", _) => refusal(403, "Forbidden", "no"),
        // Many questions about namespaces hang; other questions are not delayed.
        (Verb::Get, path, _) if path.starts_with("/api/v1/namespaces/hung") => Reply::Never,
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until_listed().await;
    for number in 0..8 {
        watching.requests.send(Request::Namespace(format!("hung-{number}").into())).await.unwrap();
    }
    let expected = [
        (Kind::Pod, "n", "there", ObjectAnswer::Present),
        (Kind::Pod, "n", "secret", ObjectAnswer::Refused),
        (Kind::Pod, "n", "gone", ObjectAnswer::Absent),
        (Kind::Pod, "n", "behind", ObjectAnswer::Present),
        (Kind::Namespace, "", "there", ObjectAnswer::Present),
        (Kind::NetworkPolicy, "n", "there", ObjectAnswer::Present),
    ];
    for (kind, space, name, _) in expected {
        watching.requests.send(Request::Object { kind, key: NamespacedName::new(space, name) }).await.unwrap();
    }
    let is_answer = |event: &&Event| matches!(event, Event::ObjectAnswer { .. });
    watching.until("answers", |now| now.others.iter().filter(is_answer).count() == expected.len()).await;
    for (kind, space, name, answer) in expected {
        let wanted = (kind, NamespacedName::new(space, name), answer);
        let is_wanted = |event: &Event| match event {
            Event::ObjectAnswer { kind, key, answer, .. } => (*kind, key.clone(), *answer) == wanted,
            _ => false,
        };
        assert!(watching.others.iter().any(is_wanted), "{wanted:?} is not among {:?}", watching.others);
    }
}

/// The answer to a request for an object's metadata.
fn object(name: &str) -> serde_json::Value {
    let metadata = json!({"namespace": "n", "name": name, "uid": "u", "resourceVersion": "1"});
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

#[tokio::test]
async fn many_notices_are_written_one_by_one_and_block_nothing() {
    let server = Server::start("notices", |asked| match asked.verb {
        Verb::Get => {
            let metadata = json!({"namespace": "n", "name": "p", "uid": "u", "resourceVersion": "1"});
            Reply::Json(
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}),
            )
        }
        Verb::Create => refusal(403, "Forbidden", "no"),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until_listed().await;
    for number in 0..400 {
        let policy = NamespacedName::new("n", format!("p{number}"));
        let notice = Notice { policy, reason: "TermNotEnforced", message: "m".to_owned() };
        watching.requests.send(Request::Notice(notice)).await.unwrap();
    }
    let written = |_: &Watching| server.seen(|asked| asked.verb == Verb::Create).len() >= 5;
    watching.until("five Events", written).await;
    let asked = server.seen(|asked| matches!(asked.verb, Verb::Get | Verb::Create));
    let apart: Vec<_> = asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(apart.iter().all(|pause| *pause >= quick().notice_pause), "{apart:?}");
}

#[tokio::test]
async fn ranges_are_asked_for_again_and_sent_when_they_differ() {
    let server = Server::start("ranges", |asked| match (asked.verb, asked.number) {
        (Verb::Get, 0) => Reply::Json(200, json!({"spec": {}})),
        (Verb::Get, 1) => Reply::Json(200, json!({"spec": {"podCIDRs": ["10.1.0.0/24"]}})),
        (Verb::Get, 2..4) => refusal(404, "NotFound", "the node is made anew"),
        (Verb::Get, 4) => Reply::Json(200, json!({"spec": {"podCIDRs": ["10.1.0.0/24"]}})),
        (Verb::Get, _) => Reply::Json(200, json!({"spec": {"podCIDRs": ["10.2.0.0/24"]}})),
        _ => calm(asked),
    })
    .await;
    let source = ApiServer::connect(Some(&server.kubeconfig)).await.unwrap();
    let mut watching = Watching::run(source.with_timing(quick()).with_pod_ranges_of("node-1"));
    watching.until("ranges", |now| now.others.len() >= 2).await;
    watching.until("asked again", |_| server.seen(|asked| asked.verb == Verb::Get).len() >= 8).await;
    let ranges = watching.others.iter().map(|event| match event {
        Event::PodRanges(ranges) => ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    });
    assert_eq!(ranges.collect::<Vec<_>>(), [["10.1.0.0/24"], ["10.2.0.0/24"]]);
    assert_eq!(watching.lists_of(Kind::Pod), 1);
}
