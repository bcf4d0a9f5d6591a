//! Events on policies with a term that cannot be enforced, in a real API server.
//!
//! The API server refuses such a policy today, but may have an old one. So the test writes it into etcd directly.
//!
//! Seen to fail when: an Event's name contains the time, so that each agent writes one; the uid is missing; no Event is
//! written.

use std::time::Duration;

use palisade_policy::input::NamespacedName;
use palisade_testkit::apiserver as fixture;
use palisade_watch::{ApiServer, Arrival, Event, Kind, Notice, ObjectName, Request, Timing};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

type Agent = (Receiver<Arrival>, Sender<Request>);

async fn agent(server: &fixture::ApiServer) -> Agent {
    let (tx, rx) = channel(64);
    let (requests, asked) = channel(64);
    let timing = Timing { notice_spread: Duration::from_millis(200), ..Timing::default() };
    let source = ApiServer::connect(Some(&server.kubeconfig())).await.unwrap().with_timing(timing);
    tokio::spawn(source.run(tx, asked));
    (rx, requests)
}

/// Waits for the warning about a policy, and requests an Event with the same text.
async fn warned((rx, requests): &mut Agent) {
    loop {
        let Arrival { event, .. } = timeout(PATIENCE, rx.recv()).await.unwrap().unwrap();
        if let Event::Warning { object: Some(ObjectName { kind: Kind::NetworkPolicy, namespace, name }), message } =
            event
            && name.contains("from-before")
        {
            let policy = NamespacedName::new(namespace.unwrap(), name);
            let notice =
                Notice { policy, reason: "TermNotEnforced", message: format!("{message}; its pods stay isolated") };
            requests.send(Request::Notice(notice)).await.unwrap();
            return;
        }
    }
}

fn events(server: &fixture::ApiServer, namespace: &str) -> Vec<Value> {
    let list = server.get(&format!("/api/v1/namespaces/{namespace}/events")).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_that_cannot_be_enforced_is_an_event_on_its_policy_and_only_one() {
    let server = fixture::ApiServer::shared();
    let namespace = server.unique_namespace("notices").unwrap();
    let uid = "5d2c7a70-0000-4000-8000-000000000001";
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": "from-before", "uid": uid, "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}],
        },
    });
    server.store_policy(&policy).unwrap();

    // The agents of two nodes, which see the same.
    let (mut one, mut other) = (agent(server).await, agent(server).await);
    warned(&mut one).await;
    warned(&mut other).await;
    let end = Instant::now() + PATIENCE;
    while events(server, &namespace).is_empty() {
        assert!(Instant::now() < end, "no Event");
        sleep(Duration::from_millis(50)).await;
    }
    // A third starts later; when its second policy has its Event, it is done with the first.
    let mut second = policy.clone();
    second["metadata"]["name"] = "from-before-2".into();
    second["metadata"]["uid"] = "5d2c7a70-0000-4000-8000-000000000002".into();
    let mut third = agent(server).await;
    warned(&mut third).await;
    server.store_policy(&second).unwrap();
    warned(&mut third).await;
    while events(server, &namespace).len() < 2 {
        assert!(Instant::now() < end, "no Event on the second policy");
        sleep(Duration::from_millis(50)).await;
    }
    let all = events(server, &namespace);
    let first: Vec<_> = all.iter().filter(|event| event["involvedObject"]["name"] == "from-before").collect();
    assert_eq!(first.len(), 1, "{first:#?}");
    let event = first[0];
    assert_eq!(event["involvedObject"]["uid"], uid);
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("TermNotEnforced")));
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("spec.ingress[0].from[0].ipBlock.cidr: "), "{message}");
    assert!(message.ends_with("stay isolated"), "{message}");
    let described =
        server.kubectl(&["events", "--for", "networkpolicy/from-before", "--namespace", &namespace]).unwrap();
    assert!(described.contains("TermNotEnforced"), "{described}");
}
