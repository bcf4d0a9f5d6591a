//! A real API server as a source, and as the reference for what the decoder accepts and refuses.
//!
//! Seen to fail when: deletions are taken for changes; errors of a watch are swallowed; a relist is merged into the old
//! state; labels are dropped while decoding; the message about missing rights does not name them; `policyTypes`
//! defaults differently from the server; warnings are dropped; deletions of policies are not delayed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::gather::Gather;
use palisade_policy::input::{Change, NamespacedName, Phase, Pod, Policy, Port, Ports, State};
use palisade_testkit::apiserver::{self as fixture, Authorization, namespace_path, network_policy_path, pod_path};
use palisade_watch::{
    ApiServer, Arrival, Event, Failure, Kind, ListPart, NamespaceAnswer, Request, SourceError, read_manifests,
};
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_mins(1);

/// A source on an API server, and the state that a receiver would keep.
struct Watching {
    rx: Receiver<Arrival>,
    requests: Sender<Request>,
    gather: Gather,
    state: State,
    synced: bool,
    /// Lists received, by kind.
    lists: BTreeMap<Kind, usize>,
    answers: Vec<(String, NamespaceAnswer)>,
    failures: Vec<Failure>,
    warnings: Vec<String>,
}

impl Watching {
    async fn start(kubeconfig: &Path) -> Self {
        let source = ApiServer::connect(Some(kubeconfig)).await.unwrap();
        let (tx, rx) = channel(4);
        let (requests, asked) = channel(4);
        tokio::spawn(source.run(tx, asked));
        let (gather, state, lists) = (Gather::default(), State::default(), BTreeMap::new());
        Self { rx, requests, gather, state, synced: false, lists, answers: vec![], failures: vec![], warnings: vec![] }
    }

    async fn synced(kubeconfig: &Path) -> Self {
        let mut watching = Self::start(kubeconfig).await;
        watching.until("synced", |watching| watching.synced).await;
        watching
    }

    async fn one(&mut self) {
        let event = timeout(PATIENCE, self.rx.recv()).await;
        match event.unwrap_or_else(|_| panic!("nothing comes")).unwrap().event {
            Event::Changes(changes) => {
                for change in changes {
                    let kind = match &change {
                        Change::Pod(_) | Change::PodGone(_) => Kind::Pod,
                        Change::Namespace(_) | Change::NamespaceGone(_) => Kind::Namespace,
                        Change::Policy(_) | Change::PolicyGone(_) => Kind::NetworkPolicy,
                        list => panic!("a list among changes: {list:?}"),
                    };
                    assert!(
                        self.lists.contains_key(&kind) && !self.gather.is_coming(kind),
                        "{kind} in a list: {change:?}"
                    );
                    self.state.apply(change);
                }
            }
            Event::List(part) => {
                if let ListPart::End(kind) = part {
                    *self.lists.entry(kind).or_default() += 1;
                }
                if let Some(list) = self.gather.take(part) {
                    self.state.apply(list);
                }
                self.synced = self.lists.len() == Kind::ALL.len();
            }
            Event::NamespaceAnswer { name, answer, .. } => self.answers.push((name.to_string(), answer)),
            Event::Failed(failure) => self.failures.push(failure),
            Event::Warning { object, message } => self.warnings.push(format!("{}: {message}", object.unwrap())),
            other => panic!("{other:?}"),
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "not in time: {what}");
            self.one().await;
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.state.pod(&NamespacedName::new(namespace, name))
    }

    fn policy(&self, namespace: &str, name: &str) -> Option<&Policy> {
        self.state.policies.get(&NamespacedName::new(namespace, name))
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Runs blocking work on a thread where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_and_change_and_go() {
    let api = fixture::ApiServer::shared();
    let namespace = blocking(|| api.unique_namespace("flow").unwrap()).await;
    let ns = namespace.clone();
    blocking(move || api.create_pod(&ns, "early", "node-1", &json!({"app": "a"})).unwrap()).await;
    let mut watching = Watching::synced(&api.kubeconfig()).await;
    let early = watching.pod(&namespace, "early").unwrap();
    assert_eq!(
        (early.node.as_deref(), early.phase, early.addresses.is_empty()),
        (Some("node-1"), Phase::Pending, true)
    );
    assert_eq!(watching.state.namespaces.get(&*namespace).unwrap().labels.len(), 1);

    let ns = namespace.clone();
    blocking(move || {
        api.set_pod_running(&ns, "early", &["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]).unwrap();
        api.create_pod(&ns, "late", "node-2", &json!({})).unwrap();
        api.label(&pod_path(&ns, "late"), &json!({"app": "b"})).unwrap();
        api.label(&namespace_path(&ns), &json!({"team": "x"})).unwrap();
        api.apply(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: {ns}}}\n\
             spec: {{podSelector: {{}}, ingress: [{{ports: [{{port: 80}}]}}]}}\n"
        ))
        .unwrap();
    })
    .await;
    let ns = namespace.as_str();
    watching.until("the policy", |watching| watching.policy(ns, "p").is_some()).await;
    watching.until("the label", |w| w.pod(ns, "late").is_some_and(|pod| pod.labels.contains_key("app"))).await;
    watching.until("an address", |w| w.pod(ns, "early").is_some_and(|pod| pod.phase == Phase::Running)).await;
    watching.until("a team", |w| w.state.namespaces[ns].labels.contains_key("team")).await;
    let addresses: Vec<_> = watching.pod(ns, "early").unwrap().addresses.iter().map(|ip| ip.to_string()).collect();
    assert_eq!(addresses, ["10.1.0.5", "fd00::5"]);
    let tcp = palisade_policy::input::Protocol::Tcp;
    let port = Port::Range { protocol: tcp, first: 80, last: 80 };
    assert_eq!(watching.policy(ns, "p").unwrap().ingress[0].ports, Ports::Of(vec![port]));

    let gone = namespace.clone();
    blocking(move || {
        api.set_pod_status(&gone, "early", &json!({"phase": "Succeeded"})).unwrap();
        api.delete(&pod_path(&gone, "late")).unwrap();
        api.delete(&network_policy_path(&gone, "p")).unwrap();
    })
    .await;
    watching.until("it ended", |w| w.pod(ns, "early").is_some_and(|pod| pod.phase == Phase::Succeeded)).await;
    watching.until("the pod gone", |w| w.pod(ns, "late").is_none()).await;
    watching.until("the policy gone", |w| w.policy(ns, "p").is_none()).await;
    let gone = namespace.clone();
    blocking(move || api.delete_namespace(&gone).unwrap()).await;
    watching.until("the namespace gone", |w| !w.state.namespaces.contains_key(ns)).await;
    assert!(watching.pod(ns, "early").is_none());
    assert!(watching.failures.is_empty(), "{:?}", watching.failures);
    assert!(watching.lists.values().all(|lists| *lists == 1), "{:?}", watching.lists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_status_is_warned_of_and_not_believed() {
    let api = fixture::ApiServer::shared();
    let namespace = blocking(|| api.unique_namespace("liar").unwrap()).await;
    let ns = namespace.clone();
    blocking(move || {
        api.create_pod(&ns, "liar", "node-1", &json!({})).unwrap();
        api.set_pod_running(&ns, "liar", &["127.0.0.1".parse().unwrap()]).unwrap();
    })
    .await;
    let mut watching = Watching::synced(&api.kubeconfig()).await;
    watching.until("warned", |watching| !watching.warnings.is_empty()).await;
    let warning = &watching.warnings[0];
    assert!(
        warning.starts_with(&format!("Pod {namespace}/liar: status: the pod address 127.0.0.1 is ignored")),
        "{warning}"
    );
    assert!(watching.pod(&namespace, "liar").unwrap().addresses.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_survived_and_lists_are_swapped_in_whole() {
    let api = Arc::new(blocking(|| fixture::ApiServer::builder().start().unwrap()).await);
    let server = Arc::clone(&api);
    blocking(move || {
        server.create_namespace("shop", &json!({})).unwrap();
        for name in ["a", "b"] {
            server.create_pod("shop", name, "node-1", &json!({})).unwrap();
        }
    })
    .await;
    let mut watching = Watching::synced(&api.kubeconfig()).await;
    let server = Arc::clone(&api);
    blocking(move || {
        // The restarted server knows no older version, so the watch of pods must begin with a list.
        server.create_namespace("later", &json!({})).unwrap();
        server.stop_apiserver();
    })
    .await;
    watching
        .until("trouble with all three", |w| {
            Kind::ALL.iter().all(|kind| w.failures.iter().any(|failure| failure.resource == Some(*kind)))
        })
        .await;
    assert_eq!(watching.state.pods.len(), 2, "an outage removes nothing");
    let server = Arc::clone(&api);
    blocking(move || {
        server.start_apiserver().unwrap();
        server.delete(&pod_path("shop", "a")).unwrap();
        server.create_pod("shop", "c", "node-1", &json!({})).unwrap();
        server.create_pod("shop", "d", "node-1", &json!({})).unwrap();
    })
    .await;
    watching.until("the new list", |w| w.state.pods.keys().map(|key| &*key.name).eq(["b", "c", "d"])).await;
    assert!(watching.lists[&Kind::Pod] >= 2, "the server forgot the place of the watch: {:?}", watching.lists);
    let reasons: Vec<_> = watching.failures.iter().map(|failure| failure.reason).collect();
    assert!(reasons.iter().all(|reason| ["watch", "list", "expired"].contains(reason)), "{:?}", watching.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_nothing_is_synced_and_the_reason_is_reported() {
    let api = blocking(|| {
        let builder = fixture::ApiServer::builder().authorization(Authorization::Rbac);
        builder.user("system:serviceaccount:kube-system:nobody", &["system:serviceaccounts"]).start().unwrap()
    })
    .await;
    let mut watching = Watching::start(&api.kubeconfig_of("system:serviceaccount:kube-system:nobody")).await;
    watching.until("refused", |watching| watching.failures.len() >= 3).await;
    assert!(!watching.synced && watching.lists.is_empty());
    for kind in Kind::ALL {
        let failure = watching.failures.iter().find(|failure| failure.resource == Some(kind)).unwrap();
        let hint = format!("the ClusterRole must allow list and watch of {}", kind.resource());
        assert!(failure.reason == "list" && failure.message.contains(&hint), "{failure:?}");
    }
}

#[tokio::test]
async fn a_bad_kubeconfig_is_reported_at_once() {
    let missing = ApiServer::connect(Some(Path::new("/nonexistent/kubeconfig"))).await.unwrap_err();
    assert!(matches!(missing, SourceError::Kubeconfig { .. }));
    let message = "the kubeconfig /nonexistent/kubeconfig cannot be used; check the file and its current-context";
    assert_eq!(missing.to_string(), message);
}

/// The documents of a file, with their numbers.
fn documents(name: &str) -> Vec<(usize, String)> {
    let text = fs::read_to_string(data(name)).unwrap();
    let (head, documents) = text.split_once("\n---\n").unwrap();
    let head = head.lines().any(|line| !line.starts_with('#')).then_some(head);
    head.into_iter()
        .chain(documents.split("\n---"))
        .map(|text| format!("{text}\n"))
        .enumerate()
        .map(|(i, t)| (i + 1, t))
        .collect()
}

/// The verdict of the API server's own client and the server on a manifest, without storing it.
fn judged(api: &fixture::ApiServer, text: &str) -> Result<String, String> {
    let path = std::env::temp_dir().join(format!("palisade-judged-{}.yaml", std::process::id()));
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let verdict = api.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file]);
    fs::remove_file(&path).unwrap();
    verdict.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_what_is_refused_here_and_takes_what_is_taken() {
    blocking(|| {
        let api = fixture::ApiServer::shared();
        for namespace in ["shop", "other"] {
            let created = api.create_namespace(namespace, &json!({}));
            assert!(created.is_ok() || api.get(&namespace_path(namespace)).is_ok());
        }
        for (number, text) in documents("good.yaml") {
            if text.lines().all(|line| line.is_empty() || line.starts_with('#')) {
                continue;
            }
            judged(api, &text).unwrap_or_else(|error| panic!("good document {number} is refused: {error}\n{text}"));
        }
        for (number, text) in documents("bad.yaml") {
            if text.contains("# client only") {
                continue;
            }
            assert!(judged(api, &text).is_err(), "bad document {number} is taken:\n{text}");
            if text.contains("# one by one") {
                one_by_one(api, number, &text);
            }
        }
    })
    .await;
}

/// Checks every line with a mistake, in a document without the others, and the document without any.
fn one_by_one(api: &fixture::ApiServer, number: usize, text: &str) {
    // Kubernetes 1.36 and later refuse what is only a warning here.
    let is_bad = |line: &str| line.contains("#! ") || line.contains("# only a warning");
    let with = |kept: Option<usize>| {
        let lines = text.lines().enumerate().filter(|(index, line)| kept == Some(*index) || !is_bad(line));
        lines.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    };
    judged(api, &with(None)).unwrap_or_else(|error| panic!("document {number} without mistakes is refused: {error}"));
    for (kept, line) in text.lines().enumerate().filter(|(_, line)| is_bad(line)) {
        assert!(judged(api, &with(Some(kept))).is_err(), "of bad document {number} this is taken: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_as_the_server_returns_them() {
    let api = Arc::new(blocking(|| fixture::ApiServer::builder().start().unwrap()).await);
    let server = Arc::clone(&api);
    blocking(move || {
        server.create_namespace("shop", &json!({})).unwrap();
        server.kubectl(&["apply", "-f", data("good.yaml").to_str().unwrap()]).unwrap();
    })
    .await;
    let watching = Watching::synced(&api.kubeconfig()).await;
    let read = read_manifests(&[data("good.yaml")]).unwrap();
    let served: Vec<_> = watching.state.policies.values().cloned().collect();
    for (served, read) in served.iter().zip(&read.policies) {
        assert_eq!(served, read);
    }
    assert_eq!(served.len(), read.policies.len());
}

/// After a policy's deletion, a question about its namespace is answered as of then or later.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_after_a_deletion_learns_that_the_namespace_ends() {
    let server = fixture::ApiServer::shared();
    let mut watching = Watching::synced(&server.kubeconfig()).await;
    let names: Vec<_> = (0..20).map(|_| server.unique_namespace("ending").unwrap()).collect();
    let key = |name: &String| NamespacedName::new(name.as_str(), "shut");
    for name in &names {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "shut", "namespace": name}, "spec": {"podSelector": {}},
        });
        server.create(&policy).unwrap();
    }
    watching.until("all are there", |now| names.iter().all(|name| now.state.policies.contains_key(&key(name)))).await;
    for name in &names {
        server.delete(&namespace_path(name)).unwrap();
        server.delete(&network_policy_path(name, "shut")).unwrap();
    }
    for name in &names {
        watching
            .until("it is gone", |now| {
                !now.state.policies.contains_key(&key(name)) || now.state.tombstones.contains(&key(name))
            })
            .await;
        watching.requests.send(Request::Namespace(name.as_str().into())).await.unwrap();
    }
    watching.until("answers", |now| now.answers.len() == names.len()).await;
    for (name, answer) in &watching.answers {
        let ends = match answer {
            NamespaceAnswer::Present(namespace) => namespace.terminating,
            NamespaceAnswer::Absent => true,
            NamespaceAnswer::Refused => false,
        };
        assert!(ends, "{name}: {answer:?}");
    }
    watching.requests.send(Request::Namespace("there-is-none".into())).await.unwrap();
    watching
        .until("an answer", |now| now.answers.contains(&("there-is-none".to_owned(), NamespaceAnswer::Absent)))
        .await;
}
