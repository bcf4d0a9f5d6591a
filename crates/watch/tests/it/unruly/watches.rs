//! Watches that hang, expire, break, or are refused.

use std::time::{Duration, Instant};

use palisade_watch::{Kind, Timing};
use serde_json::json;

use super::{Watching, hasty, quick};
use crate::unruly::server::{Asked, Reply, Server, Verb, bookmark, calm, line, list, policy, refusal, status};

const POLICIES: Kind = Kind::NetworkPolicy;

fn policies_watched(server: &Server) -> Vec<Asked> {
    server.seen(|asked| asked.is(Verb::Watch, POLICIES))
}

fn policies_listed(server: &Server) -> Vec<Asked> {
    server.seen(|asked| asked.is(Verb::List, POLICIES) && asked.text("continue").is_none())
}

#[tokio::test]
async fn an_unanswered_watch_is_restarted_and_then_everything_is_listed() {
    let server = Server::start("deaf", |asked| match asked.number {
        0..6 if asked.is(Verb::Watch, POLICIES) => Reply::Never,
        1.. if asked.is(Verb::List, POLICIES) => list(&[policy("new", "9")], "9", ""),
        _ => calm(asked),
    })
    .await;
    let begin = Instant::now();
    let mut watching = Watching::start(&server, hasty()).await;
    watching.until("the policy", |now| now.has_policy("new")).await;
    assert!(begin.elapsed() >= quick().healthy, "an outage alone is no reason to list");
    assert!((2..=6).contains(&policies_watched(&server).len()), "{:?}", policies_watched(&server));
    assert_eq!(watching.failures[0].message, "no answer within 300ms");
    assert_eq!(watching.failures[0].reason, "watch");
}

#[tokio::test]
async fn a_silent_watch_resumes_where_it_was_without_a_list() {
    let timing = Timing { silence: Duration::from_millis(400), short_watch: Duration::from_millis(200), ..quick() };
    let server = Server::start("silent", |asked| match asked.number {
        0 if asked.is(Verb::Watch, POLICIES) => Reply::Stuck(vec![bookmark("5")]),
        1 if asked.is(Verb::Watch, POLICIES) => Reply::Stuck(vec![]),
        2 if asked.is(Verb::Watch, POLICIES) => Reply::Stuck(vec![line("ADDED", policy("late", "6"))]),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, timing).await;
    watching.until("the policy", |now| now.has_policy("late")).await;
    let watched = policies_watched(&server);
    let versions: Vec<_> = watched.iter().map(|asked| asked.text("resourceVersion").unwrap()).collect();
    assert_eq!(versions[..3], ["1", "5", "5"]);
    assert_eq!(policies_listed(&server).len(), 1);
    // The first time, the server may only lack bookmarks; after that watches are short, and silence is a fault.
    let of_policies = watching.failures.iter().filter(|failure| failure.resource == Some(POLICIES));
    assert_eq!(of_policies.map(|failure| &*failure.message).collect::<Vec<_>>(), ["the server sent nothing for 400ms"]);
    let asked = |index: usize| watched[index].number("timeoutSeconds").unwrap();
    assert!(asked(0) >= 2 && asked(1) == 1, "{watched:?}");
    assert!(watched.iter().all(|asked| asked.text("allowWatchBookmarks") == Some("true")));
}

#[tokio::test]
async fn a_version_that_the_server_does_not_know_yet_is_given_up_at_once() {
    let too_large = || {
        let mut status = status(504, "Timeout", "Timeout: Too large resource version: 900, current: 5");
        status["details"] =
            json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]});
        Reply::Json(504, status)
    };
    let server = Server::start("restored", move |asked| match asked.text("resourceVersion") {
        Some("900") => too_large(),
        _ if asked.is(Verb::List, POLICIES) && asked.number == 0 => list(&[], "900", ""),
        _ if asked.is(Verb::List, POLICIES) => list(&[policy("restored", "5")], "5", ""),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until("the policy", |now| now.has_policy("restored")).await;
    assert_eq!(policies_watched(&server)[0].text("resourceVersion"), Some("900"));
    assert_eq!(server.seen(|asked| asked.text("resourceVersion") == Some("900")).len(), 1, "asked once, not retried");
    assert_eq!(watching.failures[0].reason, "expired");
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_a_reason_to_list() {
    for (name, garbage) in [("mangled", true), ("unknown", false)] {
        let server = Server::start(name, move |asked| match asked.number {
            0 if asked.is(Verb::Watch, POLICIES) && garbage => Reply::Garbage,
            0 if asked.is(Verb::Watch, POLICIES) => Reply::Stuck(vec![line("MOVED", policy("p", "4"))]),
            1.. if asked.is(Verb::List, POLICIES) => list(&[policy("p", "4")], "4", ""),
            _ => calm(asked),
        })
        .await;
        let mut watching = Watching::start(&server, quick()).await;
        watching.until("the policy", |now| now.has_policy("p")).await;
        let listed = policies_listed(&server)[1].at;
        assert_eq!(
            policies_watched(&server).iter().filter(|asked| asked.at < listed).count(),
            1,
            "at the first such line"
        );
        assert!(watching.failures[0].message.starts_with("the answer cannot be read: "), "{:?}", watching.failures);
    }
}

#[tokio::test]
async fn the_third_refusal_of_a_watch_is_a_reason_to_list_and_a_busy_server_is_none() {
    let server = Server::start("refusing", |asked| match asked.number {
        // In between the server is busy, which does not count.
        1 if asked.is(Verb::Watch, POLICIES) => refusal(429, "TooManyRequests", "later"),
        0..4 if asked.is(Verb::Watch, POLICIES) => refusal(500, "InternalError", "no"),
        1.. if asked.is(Verb::List, POLICIES) => list(&[policy("p", "4")], "4", ""),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until("the policy", |now| now.has_policy("p")).await;
    let second_list = policies_listed(&server)[1].at;
    assert_eq!(policies_watched(&server).iter().filter(|asked| asked.at < second_list).count(), 4);
}

#[tokio::test]
async fn a_broken_watch_resumes_where_it_was() {
    let server = Server::start("breaking", |asked| match asked.number {
        0 if asked.is(Verb::Watch, POLICIES) => Reply::Ends(vec![line("ADDED", policy("a", "4"))]),
        1 if asked.is(Verb::Watch, POLICIES) => Reply::Ends(vec![line("DELETED", policy("a", "5")), bookmark("6")]),
        2 if asked.is(Verb::Watch, POLICIES) => Reply::Stuck(vec![line("ADDED", policy("b", "7"))]),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until("the policy", |now| now.has_policy("b")).await;
    assert!(!watching.has_policy("a"));
    let watched = policies_watched(&server);
    let versions: Vec<_> = watched.iter().map(|asked| asked.text("resourceVersion").unwrap()).collect();
    assert_eq!((versions, watching.lists_of(POLICIES)), (vec!["1", "4", "6"], 1));
}

#[tokio::test]
async fn watches_that_end_at_once_are_not_begun_in_a_loop() {
    let server = Server::start("brief", |asked| match asked.verb {
        Verb::Watch => Reply::Ends(vec![]),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until("a failure", |now| now.failures.iter().any(|failure| failure.resource == Some(POLICIES))).await;
    tokio::time::sleep_until((Instant::now() + Duration::from_secs(2)).into()).await;
    let watched = policies_watched(&server).len();
    assert!((5..40).contains(&watched), "{watched} watches in 2 s with pauses of 200 ms");
}

#[tokio::test]
async fn in_a_storm_of_expiries_lists_keep_their_distance() {
    let server = Server::start("storm", |asked| match asked.verb {
        Verb::Watch => Reply::Ends(vec![line("ERROR", status(410, "Expired", "too old resource version: 1 (5)"))]),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until("four lists", |now| Kind::ALL.iter().all(|kind| now.lists_of(*kind) >= 4)).await;
    for kind in Kind::ALL {
        let listed = server.seen(|asked| asked.is(Verb::List, kind));
        let apart: Vec<_> = listed.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert!(apart[0] < Duration::from_millis(900), "the first time at once: {apart:?}");
        assert!(apart.iter().skip(1).all(|pause| *pause >= Duration::from_millis(850)), "{kind}: {apart:?}");
    }
    assert!(watching.failures.iter().all(|failure| failure.reason == "expired"), "{:?}", watching.failures);
}

#[tokio::test]
async fn contact_says_when_a_kind_was_last_heard_of_and_what_fails() {
    let server = Server::start("contact", |asked| match asked.kind() {
        Kind::Pod => Reply::Never,
        Kind::NetworkPolicy if asked.verb == Verb::Watch => refusal(403, "Forbidden", "no"),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, hasty()).await;
    watching.until("trouble", |now| now.failures.len() >= 6).await;
    let (namespaces, pods) = (watching.contact.of(Kind::Namespace), watching.contact.of(Kind::Pod));
    assert!(
        namespaces.heard.is_some() && namespaces.listed.is_some() && namespaces.failing.is_none(),
        "{namespaces:?}"
    );
    assert_eq!((pods.heard, pods.listed), (None, None));
    let (failures, why) = pods.failing.unwrap();
    assert!(failures >= 1 && why == "no answer within 300ms", "{failures} {why}");
    let policies = watching.contact.of(POLICIES);
    let (_, why) = policies.failing.unwrap();
    assert!(policies.listed.is_some() && why.contains("the ClusterRole must allow list and watch"), "{why}");

    // The end of a watch also counts as contact.
    let first = namespaces.heard.unwrap();
    watching
        .until("heard again", |now| now.contact.of(Kind::Namespace).heard.unwrap() > first + Duration::from_secs(4))
        .await;
    assert_eq!(watching.lists_of(Kind::Namespace), 1);
}
