//! The same cluster in a real API server: Palisade, and kube-router if its program is at hand.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use palisade_lab::Namespace;
use palisade_policy::input::State;
use palisade_testkit::apiserver::ApiServer;
use serde_json::{Value, json};

use crate::churn::{as_number, new_pod};
use crate::notices::{Notices, PALISADE};
use crate::numbers::Samples;
use crate::process::{Agent, LIMIT};
use crate::rows::Rows;
use crate::workload::{Workload, served, served_pod};

/// The node's address, by which kube-router knows the pods of its node.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Where the program of kube-router is; `hack/bench` builds it.
const KUBE_ROUTER: &str = "PALISADE_KUBE_ROUTER";

/// The version of kube-router.
const KUBE_ROUTER_VERSION: &str = "PALISADE_KUBE_ROUTER_VERSION";

/// Pauses between two looks at the kernel's IP sets.
const LOOK: Duration = Duration::from_millis(20);

/// After its first rules, an agent is left alone for this long.
const QUIET: Duration = Duration::from_secs(1);

/// An agent that enforces policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Palisade,
    /// kube-router with `--use-nftables-for-netpol`.
    Nftables,
    /// kube-router with iptables and ipset.
    Iptables,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Palisade => "palisade",
            Self::Nftables => "kube-router, nftables",
            Self::Iptables => "kube-router, iptables",
        }
    }

    fn start(self, cluster: &Cluster) -> Agent {
        let Cluster { api, namespace, directory } = cluster;
        if self == Self::Palisade {
            return Agent::of_cluster(namespace, directory, &api.kubeconfig());
        }
        let mut command = namespace.command(std::env::var_os(KUBE_ROUTER).expect("the program of kube-router"));
        command.args(["--run-router=false", "--run-service-proxy=false", "--run-firewall=true", "--v=1"]);
        command.args(["--hostname-override=node-0", "--health-port=0", "--enable-ipv6=false"]);
        command.arg(format!("--use-nftables-for-netpol={}", self == Self::Nftables));
        command.arg("--kubeconfig").arg(api.kubeconfig());
        Agent::run(namespace, directory, command)
    }

    /// The version of another program, as `hack/bench` found it.
    fn version(self) -> String {
        if self == Self::Palisade { String::new() } else { std::env::var(KUBE_ROUTER_VERSION).unwrap_or_default() }
    }

    /// What its log says once its first rules are in the kernel.
    fn is_done(self) -> &'static str {
        match self {
            Self::Palisade => "committed",
            Self::Nftables => "sync nftables took",
            Self::Iptables => "sync iptables took",
        }
    }

    fn cpu(self, agent: &Agent) -> f64 {
        if self == Self::Palisade { agent.cpu() } else { agent.cpu_of_all() }
    }
}

/// A node's network namespace, and an API server in it with a cluster's objects.
struct Cluster {
    api: ApiServer,
    namespace: Namespace,
    directory: PathBuf,
}

/// Measures every agent that is at hand, one after the other.
pub(crate) fn measure(rows: &mut Rows, workload: Workload, quick: bool) {
    let cluster = Cluster::new(workload);
    let mut contenders = vec![Contender::Palisade];
    if std::env::var_os(KUBE_ROUTER).is_some() {
        contenders.extend([Contender::Nftables, Contender::Iptables]);
    }
    let mut number = 200_000;
    for contender in contenders {
        let rounds = match contender {
            Contender::Palisade if !quick => 100,
            Contender::Palisade => 30,
            // A minute each in W2.
            Contender::Nftables | Contender::Iptables => 3,
        };
        cluster.clear();
        let agent = contender.start(&cluster);
        let done = agent.wait_for(contender.is_done());
        let id = format!("{}/real API server/{}", workload.name(), contender.name());
        let start = Samples::milliseconds(&[done - agent.started]);
        rows.compared(&format!("{id}/cold start"), "ms", &contender.version(), start.median(), None, None);
        let sight = Sight::new(contender, &cluster);
        let before = contender.cpu(&agent);
        let created = (0..rounds).map(|_| {
            number += 1;
            cluster.create(workload, number, &sight)
        });
        let times = Samples::milliseconds(&created.collect::<Vec<_>>());
        rows.median(&format!("{id}/pod created, median"), "ms", &times, None);
        rows.add(&format!("{id}/pod created, longest"), "ms", times.quantile(1.0), None, None);
        sight.until_quiet();
        let cost = (contender.cpu(&agent) - before) / as_number(rounds);
        rows.add(&format!("{id}/pod created, CPU"), "ms per event", cost, None, None);
        rows.add(&format!("{id}/memory"), "MiB", agent.memory("VmRSS"), None, None);
    }
}

impl Cluster {
    fn new(workload: Workload) -> Self {
        let namespace = Namespace::new("node-0").expect("CAP_SYS_ADMIN, for a network namespace");
        let node = format!("{NODE}/24");
        for arguments in [
            "link set lo up",
            "link add eth0 type veth peer name uplink",
            &format!("address add {node} dev eth0"),
            "link set eth0 up",
            "link set uplink up",
        ] {
            let arguments: Vec<_> = arguments.split(' ').collect();
            namespace.output("ip", &arguments, "").expect("ip, from package iproute2");
        }
        let place = namespace.clone();
        let launcher =
            move |command: &mut std::process::Command| place.run(|| command.spawn()).map_err(std::io::Error::other)?;
        let api = ApiServer::builder().launcher(launcher).start().expect("an API server, from hack/envtest");
        let name = format!("palisade-bench-{}-{}-server", std::process::id(), workload.name());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let cluster = Self { api, namespace, directory };
        cluster.fill(&workload.state());
        cluster
    }

    /// Creates all objects, as the API server's clients would.
    fn fill(&self, state: &State) {
        let address = json!([{ "type": "InternalIP", "address": NODE.to_string() }]);
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-0" },
            "spec": { "podCIDR": "10.64.0.0/24", "podCIDRs": ["10.64.0.0/24"] },
        });
        self.api.create(&node).expect("a node");
        self.api.patch("/api/v1/nodes/node-0/status", &json!({ "status": { "addresses": address } })).expect("its IP");
        let (pods, others): (Vec<_>, Vec<_>) = served(state).partition(|object| object["kind"] == "Pod");
        for other in others.iter().filter(|object| object["metadata"]["name"] != "default") {
            self.api.create(other).expect("an object that the API server takes");
        }
        let parts = pods.chunks(pods.len().div_ceil(4));
        std::thread::scope(|scope| {
            for part in parts {
                scope.spawn(|| part.iter().for_each(|pod| self.run_pod(pod)));
            }
        });
    }

    /// Creates a pod, and sets its status as its kubelet would.
    fn run_pod(&self, pod: &Value) {
        self.api.create(pod).expect("a pod");
        self.set_status(pod);
    }

    fn set_status(&self, pod: &Value) {
        let text = |field: &str| pod["metadata"][field].as_str().expect("a name").to_owned();
        let mut status = pod["status"].clone();
        let host = if pod["spec"]["nodeName"] == "node-0" { NODE } else { Ipv4Addr::new(192, 0, 2, 11) };
        status["hostIP"] = json!(host.to_string());
        status["hostIPs"] = json!([{ "ip": host.to_string() }]);
        self.api.set_pod_status(&text("namespace"), &text("name"), &status).expect("the pod's status");
    }

    /// Removes every rule and IP set of the agent before.
    fn clear(&self) {
        self.namespace.nft("flush ruleset\n").expect("nft, from package nftables");
        if std::env::var_os(KUBE_ROUTER).is_some() {
            self.namespace.output("iptables-legacy", &["-F"], "").ok();
            self.namespace.output("iptables-legacy", &["-X"], "").ok();
            self.namespace.output("ipset", &["destroy"], "").expect("ipset, from package ipset");
        }
    }

    /// From the API server's answer to the IP of a new pod of another node, to that IP in the kernel.
    fn create(&self, workload: Workload, number: usize, sight: &Sight<'_>) -> Duration {
        let new = new_pod(workload, number);
        let Some(IpAddr::V4(address)) = new.addresses.iter().next() else { panic!("the pod has no IPv4 address") };
        let pod = served_pod(&new);
        self.api.create(&pod).expect("a pod");
        sight.until_quiet();
        self.set_status(&pod);
        let answered = Instant::now();
        let seen = sight.of(address);
        seen.saturating_duration_since(answered)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// How an IP is seen to have reached the kernel.
enum Sight<'a> {
    Notices(Notices),
    Sets(&'a Namespace),
}

impl<'a> Sight<'a> {
    fn new(contender: Contender, cluster: &'a Cluster) -> Self {
        let sight = match contender {
            Contender::Palisade => Self::Notices(Notices::listen(&cluster.namespace, PALISADE)),
            Contender::Nftables => Self::Notices(Notices::listen(&cluster.namespace, "nft")),
            Contender::Iptables => Self::Sets(&cluster.namespace),
        };
        sight.until_quiet();
        sight
    }

    fn until_quiet(&self) {
        match self {
            Self::Notices(notices) => drop(notices.until_quiet(QUIET)),
            Self::Sets(_) => std::thread::sleep(QUIET),
        }
    }

    /// When the IP is in the kernel.
    fn of(&self, address: Ipv4Addr) -> Instant {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self {
                Self::Notices(notices) => {
                    let commit = notices.next(LIMIT).expect("a commit");
                    if commit.added.contains(&address.octets()) {
                        return commit.at;
                    }
                }
                Self::Sets(namespace) => {
                    let sets = namespace.output("ipset", &["save"], "").expect("ipset, from package ipset");
                    if sets.contains(&format!(" {address} ")) {
                        return Instant::now();
                    }
                    std::thread::sleep(LOOK);
                }
            }
            assert!(Instant::now() < deadline, "{address} does not reach the kernel");
        }
    }
}
