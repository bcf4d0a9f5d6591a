//! The agent against a real API server and real packets, and against a manifest directory.
//!
//! The API server runs in a namespace that the lab's node reaches; the agent runs in the node's namespace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests, also outside of test functions")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::{Child, Flow, Lab, Layout, Node, Pod};
use palisade_testkit::apiserver::{ApiServer, namespace_path, pod_path};
use serde_json::json;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An agent in a node's namespace.
struct Agent {
    child: Child,
    node: Node,
    log: PathBuf,
}

impl Agent {
    fn start(node: &Node, source: &[&str], log: &Path) -> Self {
        let mut command = node.command(env!("CARGO_BIN_EXE_palisade"));
        command.args(["agent", "--node", node.name(), "--listen", "127.0.0.1:9440"]).args(source);
        let file = fs::File::options().create(true).append(true).open(log).unwrap();
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self { child: Child::spawn(command).unwrap(), node: node.clone(), log: log.to_owned() }
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let ask = || -> io::Result<String> {
            let mut stream = TcpStream::connect("127.0.0.1:9440")?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        self.node.run(ask).unwrap()
    }

    fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn metric(&self, name: &str) -> u64 {
        let answer = self.get("/metrics").unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    fn commits(&self) -> u64 {
        ["full", "incremental", "repair"]
            .iter()
            .map(|kind| self.metric(&format!("palisade_commits_total{{kind=\"{kind}\",result=\"success\"}}")))
            .sum()
    }

    /// Does something and waits until the agent says that it committed a change.
    fn after<T>(&self, change: impl FnOnce() -> T) -> T {
        let before = self.commits();
        let done = change();
        self.wait("a commit", || self.commits() > before);
        done
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LIMIT, "no {what} within {LIMIT:?}; the log:\n{}", self.read_log());
            thread::yield_now();
        }
    }

    fn read_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn end(self) -> String {
        self.child.signal(palisade_lab::Signal::SIGTERM).unwrap();
        self.child.wait(LIMIT).unwrap();
        self.read_log()
    }
}

fn list(node: &Node) -> String {
    node.namespace().output("nft", &["list", "ruleset"], "").unwrap()
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("palisade-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("manifests")).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Whether the first packet of each flow gets through: TCP, UDP and ping, in both families.
fn reaches(lab: &Lab, from: &Pod, to: &Pod) -> Vec<bool> {
    let flows: Vec<_> = to
        .addresses()
        .into_iter()
        .flat_map(|address| [Flow::tcp(from, address, 80), Flow::udp(from, address, 80)])
        .collect();
    lab.shoot(&flows).unwrap()
}

/// A table of somebody else.
const FOREIGN: &str = "table inet foreign {\n set s {\n type ipv4_addr\n elements = { 1.2.3.4 }\n }\n}\n";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: shop}
spec: {podSelector: {}}
";

const ALLOW: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-allow, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: friends}}, podSelector: {matchLabels: {app: client}}}]}]
";

#[test]
fn policies_of_an_api_server_change_the_verdict_of_real_packets() {
    let lab = Lab::builder().nodes(1, Layout::Bridge).build().unwrap();
    let node = lab.node(1);
    let (web, client) = (node.add_pod("shop/web").unwrap(), node.add_pod("ops/client").unwrap());
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    let host = lab.add_host("control-plane", &[address]).unwrap();
    let api = ApiServer::builder()
        .launcher(move |command| host.namespace().run(|| command.spawn()).map_err(io::Error::other)?)
        .address(address)
        .start()
        .unwrap();
    for (namespace, name, pod) in [("shop", "web", &web), ("ops", "client", &client)] {
        api.create_namespace(namespace, &json!({})).unwrap();
        api.create_pod(namespace, name, node.name(), &json!({ "app": name })).unwrap();
        api.set_pod_running(namespace, name, &pod.addresses()).unwrap();
    }
    let all = |verdict: bool| vec![verdict; 4];
    node.nft(FOREIGN).unwrap();
    let foreign = || node.namespace().output("nft", &["list", "table", "inet", "foreign"], "").unwrap();
    let foreign_before = foreign();

    // Nothing is written, and readiness says why, while the API server cannot be asked.
    let scratch = Scratch::new("agent-api");
    let log = scratch.0.join("log");
    api.stop_apiserver();
    let kubeconfig = api.kubeconfig();
    let agent = Agent::start(node, &["--kubeconfig", kubeconfig.to_str().unwrap()], &log);
    agent.wait("answer", || agent.get("/readyz").is_ok_and(|answer| answer.contains("not all been listed")));
    assert!(!list(node).contains("palisade"), "the kernel was written to before everything was listed");
    api.start_apiserver().unwrap();
    agent.wait("readiness", || agent.is_ready());
    assert_eq!(reaches(&lab, &client, &web), all(true));

    // A policy lands: the packets, the log, the metrics and the table tell the same story.
    agent.after(|| api.apply(DENY).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(false));
    assert!(agent.read_log().contains("policy shop/deny-all added"), "{}", agent.read_log());
    assert!(agent.metric("palisade_policies") == 1);
    assert!(agent.metric("palisade_local_pods{isolation=\"ingress\"}") == 2);
    assert!(agent.metric("palisade_dropped_packets_total{direction=\"ingress\",family=\"ipv4\"}") >= 2);
    assert!(agent.metric("palisade_dropped_packets_total{direction=\"ingress\",family=\"ipv6\"}") >= 2);
    let table = list(node);
    assert!(table.contains("jump ingress/shop/deny-all") && table.contains("comment \"shop/web\""), "{table}");

    // A second policy allows a peer that no label makes one yet; then the namespace's does, then not the pod's.
    agent.after(|| api.apply(ALLOW).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(false));
    agent.after(|| api.label(&namespace_path("ops"), &json!({ "team": "friends" })).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(true));
    agent.after(|| api.label(&pod_path("ops", "client"), &json!({ "app": "other" })).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(false));
    agent.after(|| api.label(&pod_path("ops", "client"), &json!({ "app": "client" })).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(true));
    assert!(list(node).contains("chain ingress/shop/deny-all_web-allow"));

    // A change of a policy; an outage, in which everything stays as it is; deleting both reopens.
    agent.after(|| api.apply(&ALLOW.replace("friends", "enemies")).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(false));
    api.stop_apiserver();
    assert_eq!(reaches(&lab, &client, &web), all(false));
    api.start_apiserver().unwrap();
    agent.after(|| api.kubectl(&["-n", "shop", "delete", "networkpolicy", "web-allow"]).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(false));

    // The owner flag keeps a foreign flush away from the table, and the ruleset stays when the agent ends.
    node.namespace().output("nft", &["flush", "table", "inet", "foreign"], "").unwrap();
    node.nft("flush ruleset").unwrap();
    assert_eq!(reaches(&lab, &client, &web), all(false));
    node.nft(FOREIGN).unwrap();
    agent.end();
    assert_eq!(reaches(&lab, &client, &web), all(false));
    let adopted = Agent::start(node, &["--kubeconfig", kubeconfig.to_str().unwrap()], &log);
    adopted.wait("readiness", || adopted.is_ready());
    adopted.after(|| api.kubectl(&["-n", "shop", "delete", "networkpolicy", "deny-all"]).unwrap());
    assert_eq!(reaches(&lab, &client, &web), all(true));
    adopted.end();
    node.namespace().output(env!("CARGO_BIN_EXE_palisade"), &["cleanup"], "").unwrap();
    assert!(!list(node).contains("palisade"));
    assert_eq!(foreign(), foreign_before);
}

fn pod_manifest(namespace: &str, pod: &Pod) -> String {
    let name = pod.name().rsplit('/').next().unwrap();
    let addresses: Vec<_> = pod.addresses().iter().map(|ip| json!({ "ip": ip.to_string() })).collect();
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": name } },
        "spec": { "nodeName": pod.node() },
        "status": { "phase": "Running", "podIPs": addresses },
    });
    format!("---\n{manifest}\n")
}

#[test]
fn a_directory_of_manifests_is_followed_and_an_idle_agent_rests() {
    let lab = Lab::builder().nodes(1, Layout::Bridge).build().unwrap();
    let node = lab.node(1);
    let (web, client) = (node.add_pod("shop/web").unwrap(), node.add_pod("ops/client").unwrap());
    let scratch = Scratch::new("agent-dir");
    let (directory, log) = (scratch.0.join("manifests"), scratch.0.join("log"));
    fs::write(directory.join("pods.yaml"), pod_manifest("shop", &web) + &pod_manifest("ops", &client)).unwrap();
    fs::write(directory.join("deny.yaml"), DENY.replace("podSelector", "podSelektor")).unwrap();
    let agent = Agent::start(node, &["--manifests", directory.to_str().unwrap()], &log);

    // A bad file at the start: not ready, the reason with file, line and field, nothing written.
    agent.wait("a reason", || agent.get("/readyz").is_ok_and(|answer| answer.contains("podSelektor")));
    let reason = agent.get("/readyz").unwrap();
    assert!(reason.contains("deny.yaml:5") && reason.contains("spec.podSelektor"), "{reason}");
    assert!(!list(node).contains("palisade"));
    fs::write(directory.join("deny.yaml"), DENY).unwrap();
    agent.wait("readiness", || agent.is_ready());
    assert!(reaches(&lab, &client, &web).iter().all(|reached| !reached));

    // Later a bad file keeps its last good content in force, and is counted.
    fs::write(directory.join("deny.yaml"), "nonsense: [").unwrap();
    agent.wait("a rejection", || agent.metric("palisade_manifests_rejected_total") >= 2);
    assert!(reaches(&lab, &client, &web).iter().all(|reached| !reached));
    agent.after(|| fs::remove_file(directory.join("deny.yaml")).unwrap());
    assert!(reaches(&lab, &client, &web).iter().all(|reached| *reached));

    // One pod more touches what changed: its own address in the pairs of addresses, in both families.
    let more = node.add_pod("shop/more").unwrap();
    let before = agent.metric("palisade_commit_operations_total");
    agent.after(|| fs::write(directory.join("more.yaml"), pod_manifest("shop", &more)).unwrap());
    assert!(agent.metric("palisade_commit_operations_total") == before + 2);

    // Idle. The bounded wait is the measurement itself.
    let spent = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", agent.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields.iter().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    };
    let (before, start) = (spent(), Instant::now());
    while start.elapsed() < Duration::from_secs(5) {
        thread::park_timeout(Duration::from_secs(1));
    }
    let ticks = spent() - before;
    assert!(ticks <= 2, "an idle agent used {ticks} ticks of a hundredth of a second in 5 s");
    agent.end();
}
