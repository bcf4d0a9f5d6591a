//! Requests by hand to the API server that misbehaves. (tests/it/faults.rs runs an agent on it.)
//!
//! Seen to fail when:
//! - a page skips an item; a limit is not kept; tokens never expire;
//! - a watch repeats events before its version, or continues after its end;
//! - a future version is accepted; an expired watch is resumed;
//! - a fault affects another kind of request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use palisade_testkit::fakeapi::{Answer, FakeApi, Resource, Shown, Verb, deny, ending, namespace, pod};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/pods";
const LIMIT: Duration = Duration::from_secs(20);

/// A request on a new connection; returns the answer's status and body.
fn ask(api: &FakeApi, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = open(api, method, path, body);
    let mut answer = String::new();
    let mut reader = BufReader::new(&mut stream);
    reader.read_line(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn open(api: &FakeApi, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(api.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    stream
}

fn get(api: &FakeApi, path: &str) -> (u16, Value) {
    let (status, body) = ask(api, "GET", path, "");
    (status, serde_json::from_str(&body).unwrap())
}

/// The names of a list, read in pages.
fn names(api: &FakeApi, path: &str, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let (status, list) = get(api, &format!("{path}?limit={limit}{next}"));
        assert_eq!(status, 200, "{list}");
        let items = list["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        found.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        match list["metadata"]["continue"].as_str() {
            Some(token) => next = format!("&continue={token}"),
            None => return found,
        }
    }
}

/// The events of a watch.
struct Watch(BufReader<TcpStream>);

impl Watch {
    fn open(api: &FakeApi, path: &str, query: &str) -> Self {
        let mut reader = BufReader::new(open(api, "GET", &format!("{path}?watch=true&{query}"), ""));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the watch did not begin");
        }
        Self(reader)
    }

    /// The next line; none at the end.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim() {
                "0" => return None,
                text if text.starts_with('{') => return Some(text.to_owned()),
                _ => assert!(!line.is_empty(), "the connection was cut"),
            }
        }
    }

    fn event(&mut self) -> (String, String) {
        let event: Value = serde_json::from_str(&self.next().unwrap()).unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        (event["type"].as_str().unwrap().to_owned(), name.to_owned())
    }
}

fn some_pod(name: &str) -> Value {
    pod("shop", name, "node-1", &["10.42.1.2".parse().unwrap()], &json!({ "app": name }))
}

fn with_pods(count: usize) -> FakeApi {
    let api = FakeApi::start().unwrap();
    api.load((0..count).map(|number| some_pod(&format!("pod-{number:06}"))));
    api
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "no {what}");
        std::thread::yield_now();
    }
}

#[test]
fn lists_come_in_pages_of_one_moment() {
    let api = with_pods(7);
    let every: Vec<String> = (0..7).map(|number| format!("pod-{number:06}")).collect();
    for limit in 1..9 {
        assert_eq!(names(&api, PODS, limit), every);
    }
    let (_, first) = get(&api, &format!("{PODS}?limit=3"));
    api.delete(Resource::Pods, "shop", "pod-000004");
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = get(&api, &format!("{PODS}?limit=9&continue={token}"));
    assert_eq!(second["items"].as_array().unwrap().len(), 4, "the list changed while it was read");
    assert_eq!(names(&api, PODS, 9).len(), 6);
    (0..32).for_each(|_| drop(get(&api, "/api/v1/namespaces")));
    assert_eq!(get(&api, &format!("{PODS}?limit=9&continue={token}")).0, 410, "the token of an old list is still good");
    api.ignore_limits(true);
    assert_eq!(get(&api, &format!("{PODS}?limit=1")).1["items"].as_array().unwrap().len(), 6);
    assert_eq!(api.count(Verb::Page, Resource::Pods), 6 + 3 + 2 + 1 + 1 + 1 + 1 + 1);
    assert_eq!(api.count(Verb::List, Resource::Pods), 8 + 1 + 1 + 1);
}

#[test]
fn lists_are_cut_as_the_test_says() {
    let api = with_pods(5);
    let shown = |shown: Shown| {
        api.show(Resource::Pods, shown);
        names(&api, PODS, 2)
    };
    let [a, b, d, e] = ["pod-000000", "pod-000001", "pod-000003", "pod-000004"].map(str::to_owned);
    assert!(shown(Shown::Nothing).is_empty());
    assert_eq!(shown(Shown::First(2)), [a.clone(), b.clone()]);
    assert_eq!(shown(Shown::Last(2)), [d.clone(), e.clone()]);
    let (one, other) = (shown(Shown::Alternating(2)), shown(Shown::Alternating(2)));
    assert_ne!(one, other);
    assert_eq!([one, other].iter().flatten().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert_eq!(shown(Shown::Instead(vec![some_pod("stranger")])), ["stranger"]);
    assert_eq!(shown(Shown::All).len(), 5);
    api.show_next(Resource::Pods, [Shown::Nothing, Shown::First(1)]);
    assert_eq!([0; 3].map(|_| names(&api, PODS, 2).len()), [0, 1, 5]);
    api.show(Resource::Pods, Shown::Nothing);
    assert_eq!(get(&api, "/api/v1/namespaces/shop/pods/pod-000001").0, 200, "GETs stay true");
}

#[test]
fn a_watch_brings_every_change_once() {
    let api = with_pods(1);
    let (_, list) = get(&api, PODS);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let query = format!("resourceVersion={version}&timeoutSeconds=2");
    let mut watch = Watch::open(&api, PODS, &query);
    api.put(some_pod("new"));
    api.put(namespace("elsewhere", &json!({})));
    assert_eq!(watch.event(), ("ADDED".into(), "new".into()));
    api.put(some_pod("new"));
    assert!(api.delete(Resource::Pods, "shop", "new"));
    assert!(!api.delete(Resource::Pods, "shop", "new"));
    assert_eq!(watch.event().0, "MODIFIED");
    assert_eq!(watch.event().0, "DELETED");
    assert_eq!(watch.next(), None, "it ends on time");
    wait("end", || api.watches(Resource::Pods) == 0);
    api.put_at_once(["one", "two"].map(some_pod), &[(Resource::Pods, "shop", "one")]);
    assert_eq!((api.len(Resource::Pods), api.is_empty(Resource::Nodes)), (2, true));
    // Again from the same version: the same.
    let mut again = Watch::open(&api, PODS, &query);
    assert_eq!([again.event().0, again.event().0, again.event().0], ["ADDED", "MODIFIED", "DELETED"]);
    assert_eq!(api.count(Verb::Watch, Resource::Pods), 2);
}

#[test]
fn bookmarks_are_for_watches_that_ask() {
    let api = with_pods(1);
    api.bookmarks(Some(Duration::from_millis(50)));
    let mut watch = Watch::open(&api, PODS, "allowWatchBookmarks=true&timeoutSeconds=5");
    assert_eq!(watch.event().0, "BOOKMARK");
    let mut without = Watch::open(&api, PODS, "timeoutSeconds=1");
    assert_eq!(without.next(), None);
}

#[test]
fn a_silent_watch_continues_afterwards_unless_it_has_expired() {
    let api = with_pods(1);
    let mut watch = Watch::open(&api, PODS, "timeoutSeconds=60");
    wait("watch", || api.watches(Resource::Pods) == 1);
    api.silence(Resource::Pods, true);
    api.put(some_pod("unheard"));
    watch.0.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(watch.0.fill_buf().is_err(), "silence was broken");
    watch.0.get_ref().set_read_timeout(Some(LIMIT)).unwrap();
    api.silence(Resource::Pods, false);
    assert_eq!(watch.event(), ("ADDED".into(), "unheard".into()));
    let before = api.backup();
    api.silence(Resource::Pods, true);
    api.put(some_pod("lost"));
    api.expire(Resource::Pods);
    api.silence(Resource::Pods, false);
    assert!(watch.next().unwrap().contains("410"));
    assert_eq!(watch.next(), None);
    let (_, list) = get(&api, PODS);
    let now: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let mut old = Watch::open(&api, PODS, &format!("resourceVersion={}", now - 1));
    assert!(old.next().unwrap().contains("410"), "an expired version was accepted");

    // A restored etcd: seen versions are in the future.
    api.restore(&before);
    assert_eq!(names(&api, PODS, 9).len(), 2);
    let (status, refusal) = get(&api, &format!("{PODS}?watch=true&resourceVersion={now}"));
    assert_eq!((status, &refusal["details"]["causes"][0]["reason"]), (504, &json!("ResourceVersionTooLarge")));
    api.advance(100);
    api.put(some_pod("later"));
    let mut skipping = Watch::open(&api, PODS, &format!("resourceVersion={now}"));
    assert_eq!(skipping.event().1, "later");
}

#[test]
fn each_request_is_answered_as_the_test_says() {
    let api = with_pods(3);
    let pods = |verb, answer| api.answer(verb, Resource::Pods, answer);
    for code in [403, 410, 500, 503] {
        pods(Verb::List, Answer::Status(code));
        let (status, refusal) = get(&api, PODS);
        assert_eq!((status, refusal["code"].as_u64()), (code, Some(code.into())));
        assert_eq!(get(&api, "/api/v1/namespaces").0, 200);
    }
    pods(Verb::List, Answer::Garbage);
    let (status, body) = ask(&api, "GET", PODS, "");
    assert!(status == 200 && serde_json::from_str::<Value>(&body).is_err());
    pods(Verb::List, Answer::Dribble(Duration::from_micros(10)));
    assert_eq!(names(&api, PODS, 5).len(), 3);
    pods(Verb::List, Answer::Right);
    pods(Verb::Page, Answer::Expired);
    let (_, first) = get(&api, &format!("{PODS}?limit=2"));
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(get(&api, &format!("{PODS}?limit=2&continue={token}")).0, 410);
    pods(Verb::Watch, Answer::Expired);
    assert!(Watch::open(&api, PODS, "").next().unwrap().contains("410"));

    // Nothing arrives, or nothing more.
    let nothing = |mut stream: TcpStream, wanted: &str| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut read = Vec::new();
        let end = stream.read_to_end(&mut read).map_err(|error| error.kind());
        assert_eq!(end, Err(std::io::ErrorKind::WouldBlock), "the connection ended");
        let text = String::from_utf8(read).unwrap();
        assert!(text.contains(wanted) && (!wanted.is_empty() || text.is_empty()), "{text}");
    };
    pods(Verb::List, Answer::Hang);
    nothing(open(&api, "GET", PODS, ""), "");
    pods(Verb::List, Answer::HangInside);
    nothing(open(&api, "GET", PODS, ""), "\"items\":[");
    pods(Verb::Watch, Answer::HangInside);
    nothing(open(&api, "GET", &format!("{PODS}?watch=1"), ""), "chunked");
    pods(Verb::Watch, Answer::Hang);
    nothing(open(&api, "GET", &format!("{PODS}?watch=1"), ""), "");
    pods(Verb::List, Answer::Close);
    let mut read = Vec::new();
    assert_eq!(open(&api, "GET", PODS, "").read_to_end(&mut read).unwrap_or(0), 0);

    api.answer_all(&Answer::Status(503));
    assert_eq!(get(&api, "/api/v1/namespaces/shop").0, 503);
    api.answer_all(&Answer::Right);
    assert_eq!(names(&api, PODS, 5).len(), 3);
}

#[test]
fn single_objects_are_read_and_events_are_written() {
    let api = FakeApi::start().unwrap();
    api.put(ending(namespace("shop", &json!({}))));
    api.put(deny("shop", "deny"));
    let (_, found) = get(&api, "/api/v1/namespaces/shop");
    assert_eq!(found["status"]["phase"], "Terminating");
    assert_eq!(get(&api, "/api/v1/namespaces/none").0, 404);
    let policies = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
    assert_eq!(get(&api, &format!("{policies}/deny")).1["metadata"]["uid"], "networkpolicies-shop-deny");
    assert_eq!(names(&api, policies, 5), ["deny"]);
    assert_eq!(names(&api, &policies.replace("shop", "other"), 5), [""; 0]);
    let (status, _) = ask(&api, "POST", "/api/v1/namespaces/shop/events", "{\"reason\":\"Test\"}");
    assert_eq!((status, api.events()), (201, vec![json!({ "reason": "Test" })]));
    assert_eq!(get(&api, "/apis/apps/v1/deployments").0, 404);
    let seen: Vec<_> = api.requests().into_iter().map(|seen| (seen.verb, seen.name)).collect();
    assert_eq!(seen[0], (Verb::Get, "shop".to_owned()));
    assert_eq!(api.count_since(Instant::now(), Verb::Get, Resource::Namespaces), 0);
    // A truncated line.
    let mut watch = Watch::open(&api, "/api/v1/pods", "");
    wait("watch", || api.watches(Resource::Pods) == 1);
    api.mangle_next(Resource::Pods);
    api.put(some_pod("cut"));
    api.put(some_pod("whole"));
    assert!(serde_json::from_str::<Value>(&watch.next().unwrap()).is_err());
    assert_eq!(watch.event().1, "whole");
}

#[test]
fn connections_are_refused_and_cut() {
    let api = with_pods(1);
    let mut kept = open(&api, "GET", &format!("{PODS}?watch=1&timeoutSeconds=60"), "");
    wait("watch", || api.watches(Resource::Pods) == 1);
    api.refuse_connections();
    assert!(TcpStream::connect(api.address()).is_err());
    api.accept_connections().unwrap();
    assert_eq!(names(&api, PODS, 5).len(), 1);
    assert_eq!(api.watches(Resource::Pods), 1);
    api.cut_connections();
    kept.read_to_end(&mut Vec::new()).unwrap();
    wait("end of connections", || api.connections() == 0);
}

#[test]
fn a_hundred_thousand_pods_are_listed_in_seconds() {
    let api = with_pods(100_000);
    let start = Instant::now();
    let mut stream = BufReader::new(open(&api, "GET", PODS, ""));
    let mut length = 0;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        length = line.strip_prefix("Content-Length: ").map_or(length, |value| value.trim().parse().unwrap());
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
    assert!(length > 20_000_000, "{length}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
