//! Lists that hang, break off, or are large.

use std::time::{Duration, Instant};

use palisade_watch::{Kind, Request, Timing};

use super::{Watching, hasty, quick};
use crate::unruly::server::{Asked, Reply, Server, Verb, calm, line, list, pod, refusal};

fn pods_listed(server: &Server) -> Vec<Asked> {
    server.seen(|asked| asked.is(Verb::List, Kind::Pod))
}

#[tokio::test]
async fn an_unanswered_list_is_requested_again() {
    let server = Server::start("hung", |asked| match asked.number {
        0..2 if asked.is(Verb::List, Kind::Pod) => Reply::Never,
        _ if asked.is(Verb::List, Kind::Pod) => list(&[pod("p", "1", 1)], "1", ""),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, hasty()).await;
    watching.until_listed().await;
    assert!(watching.has_pod("p"));
    assert_eq!(watching.parts_of(Kind::Pod), "bpe", "a list that never began is not abandoned");
    let messages: Vec<_> = watching.failures.iter().map(|failure| &*failure.message).collect();
    assert_eq!(messages, ["no answer within 300ms"; 2]);
}

#[tokio::test]
async fn a_list_that_stops_in_the_middle_of_a_page_is_requested_again() {
    let server = Server::start("half", |asked| match asked.number {
        0 if asked.is(Verb::List, Kind::Pod) => Reply::Stuck(vec![]),
        1 if asked.is(Verb::List, Kind::Pod) => Reply::Ends(vec![serde_json::json!({"items": []})]),
        2 if asked.is(Verb::List, Kind::Pod) => list(&[pod("p", "1", 1)], "", ""),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, hasty()).await;
    watching.until_listed().await;
    let messages: Vec<_> = watching.failures.iter().map(|failure| &*failure.message).collect();
    assert_eq!(messages[0], "no answer within 300ms");
    assert!(messages[1].starts_with("the answer cannot be read: missing field `metadata`"), "{messages:?}");
    assert_eq!(messages[2], "the answer cannot be read: a list without a version");
    assert_eq!(watching.parts_of(Kind::Pod), "be");
}

#[tokio::test]
async fn a_list_whose_next_page_has_expired_is_abandoned_and_begun_again() {
    let server = Server::start("midlist", |asked| match (asked.number, asked.text("continue")) {
        (0, _) if asked.is(Verb::List, Kind::Pod) => list(&[pod("old", "1", 1)], "1", "more"),
        (1, Some("more")) => refusal(410, "Expired", "the continue token is too old"),
        (2, None) if asked.is(Verb::List, Kind::Pod) => list(&[pod("a", "2", 1)], "2", "more"),
        (3, Some("more")) => list(&[pod("b", "2", 1)], "2", ""),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until("pods", |now| now.lists_of(Kind::Pod) == 1).await;
    assert_eq!(watching.parts_of(Kind::Pod), "bpabppe");
    assert!(watching.has_pod("a") && watching.has_pod("b") && !watching.has_pod("old"));
    assert_eq!(watching.failures.iter().map(|failure| failure.reason).collect::<Vec<_>>(), ["expired"]);
}

#[tokio::test]
async fn pages_shrink_while_objects_are_large_and_grow_while_they_are_small() {
    let server = Server::start("sizes", |asked| {
        if !asked.is(Verb::List, Kind::Pod) {
            return calm(asked);
        }
        let page: usize = asked.text("continue").map_or(0, |next| next.parse().unwrap());
        let bytes = if page < 4 { 10_000 } else { 1 };
        let next = (page < 12).then(|| (page + 1).to_string());
        Reply::Made { objects: asked.number("limit").unwrap(), bytes, next }
    })
    .await;
    let mut watching = Watching::start(&server, Timing { page_bytes: 300_000, ..quick() }).await;
    watching.until("pods", |now| now.lists_of(Kind::Pod) == 1).await;
    let limits: Vec<_> = pods_listed(&server).iter().map(|asked| asked.number("limit").unwrap()).collect();
    assert_eq!(limits[..6], [100, 50, 25, 25, 25, 50], "{limits:?}");
    assert_eq!(limits.iter().max(), Some(&500), "{limits:?}");
    assert_eq!(watching.state.pods.len(), limits.iter().sum::<usize>());
}

#[tokio::test]
async fn a_page_that_takes_too_long_is_asked_for_in_smaller_pieces() {
    let server = Server::start("slow", |asked| {
        if !asked.is(Verb::List, Kind::Pod) {
            return calm(asked);
        }
        let slow = Duration::from_millis(asked.number("limit").unwrap() as u64 * 8);
        Reply::After(slow, Box::new(list(&[], "1", "")))
    })
    .await;
    let mut watching = Watching::start(&server, hasty()).await;
    watching.until_listed().await;
    let limits: Vec<_> = pods_listed(&server).iter().map(|asked| asked.number("limit").unwrap()).collect();
    assert_eq!(limits[..3], [100, 50, 25]);
}

#[tokio::test]
async fn everything_is_periodically_listed_from_the_newest_state() {
    let server = Server::start("while", |asked| match asked.number {
        1.. if asked.is(Verb::List, Kind::Pod) => list(&[pod("missed", "8", 1)], "9", ""),
        _ => calm(asked),
    })
    .await;
    let begin = Instant::now();
    let relist = Duration::from_millis(800);
    let mut watching = Watching::start(&server, Timing { relist, ..quick() }).await;
    watching.until("the pod", |now| now.has_pod("missed")).await;
    assert!(begin.elapsed() >= relist.mul_f64(0.9));
    assert!(watching.failures.is_empty(), "{:?}", watching.failures);
    assert!(pods_listed(&server).iter().all(|asked| asked.text("resourceVersion").is_none()));
}

#[tokio::test]
async fn a_requested_list_comes_at_once_and_further_ones_are_spaced() {
    let server = Server::start("wishes", calm).await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until_listed().await;
    let begin = Instant::now();
    for _ in 0..20 {
        watching.requests.send(Request::List(Kind::Pod)).await.unwrap();
    }
    watching.until("a list", |now| now.lists_of(Kind::Pod) >= 2).await;
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
    for _ in 0..20 {
        watching.requests.send(Request::List(Kind::Pod)).await.unwrap();
    }
    watching.until("another", |now| now.lists_of(Kind::Pod) >= 3).await;
    let listed = pods_listed(&server);
    assert!(listed[2].at - listed[1].at >= Duration::from_millis(850), "{:?}", listed[2].at - listed[1].at);
    assert_eq!((watching.lists_of(Kind::Namespace), watching.lists_of(Kind::NetworkPolicy)), (1, 1));
}

#[tokio::test]
async fn the_watch_continues_while_a_requested_list_fails() {
    let server = Server::start("onward", |asked| match asked.number {
        1.. if asked.is(Verb::List, Kind::Pod) => refusal(500, "InternalError", "no"),
        1.. if asked.is(Verb::Watch, Kind::Pod) => Reply::Stuck(vec![line("ADDED", pod("next", "2", 1))]),
        _ => calm(asked),
    })
    .await;
    let mut watching = Watching::start(&server, quick()).await;
    watching.until_listed().await;
    watching.requests.send(Request::List(Kind::Pod)).await.unwrap();
    watching.until("the pod", |now| now.has_pod("next")).await;
    assert_eq!(watching.failures.iter().map(|failure| failure.reason).collect::<Vec<_>>(), ["list"]);
    assert_eq!(watching.parts_of(Kind::Pod), "be", "nothing was removed");
    watching.until("asked again", |now| now.failures.len() >= 2).await;
}
