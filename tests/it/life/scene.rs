//! Pods of a namespace, and their own network namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use palisade_lab::{Flow, Listen, Namespace, Server, probe_all};
use serde_json::Value;

use crate::life::cluster::{Cluster, PATIENCE, within};

/// Time limit of a probe's answer.
const PROBE: Duration = Duration::from_millis(700);
/// The port on which servers answer probes.
pub(crate) const PORT: u16 = 80;

/// A namespace of the cluster, deleted at the end.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) name: String,
}

/// A running pod.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) network: Namespace,
}

impl AsRef<Namespace> for Pod {
    fn as_ref(&self) -> &Namespace {
        &self.network
    }
}

impl<'a> Scene<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: &str) -> Self {
        let name = format!("life-{name}");
        // Left by an interrupted run.
        cluster.kubectl(&["delete", "namespace", "--ignore-not-found", "--wait", &name]);
        cluster.kubectl(&["create", "namespace", &name]);
        // Pods are refused before the namespace has its service account.
        within(PATIENCE, "a service account", || {
            cluster.try_kubectl(&["get", "serviceaccount", "default", "--namespace", &name], "").ok()
        });
        Self { cluster, name }
    }

    /// Applies a manifest in the namespace.
    pub(crate) fn apply(&self, manifest: &str) {
        let applied = self.cluster.try_kubectl(&["apply", "--namespace", &self.name, "--filename=-"], manifest);
        applied.unwrap_or_else(|error| panic!("{error}: {manifest}"));
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["--namespace", self.name.as_str()], arguments].concat())
    }

    /// The manifest of an idle pod.
    pub(crate) fn idle(&self, name: &str, node: &str, app: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nspec:\n  nodeName: {node}\n  \
             terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: \"{}\", args: [pause]}}]\n---\n",
            self.cluster.agnhost
        )
    }

    /// Starts idle pods, given as name, node and label `app`, and waits until they are ready.
    pub(crate) fn pods<const N: usize>(&self, wanted: [(&str, &str, &str); N]) -> [Pod; N] {
        self.apply(&wanted.map(|(name, node, app)| self.idle(name, node, app)).concat());
        wanted.map(|(name, node, _)| self.started(name, node))
    }

    /// A pod that the cluster starts.
    pub(crate) fn started(&self, name: &str, node: &str) -> Pod {
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
        let pod: Value = serde_json::from_str(&self.kubectl(&["get", "pod", name, "--output=json"])).unwrap();
        let listed = pod["status"]["podIPs"].as_array().unwrap();
        let addresses: Vec<IpAddr> =
            listed.iter().map(|entry| entry["ip"].as_str().unwrap().parse().unwrap()).collect();
        let network = within(PATIENCE, "the network namespace of a pod", || {
            networks(self.cluster, node).into_values().find(|network| has(network, addresses[0]))
        });
        Pod { name: name.to_owned(), addresses, network }
    }

    /// A policy on `app=server` that allows `app=client` and no other pod.
    pub(crate) fn let_clients_in(&self) {
        self.apply(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: server}\nspec:\n  \
             podSelector: {matchLabels: {app: server}}\n  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]\n",
        );
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // Whatever the result of the test, the namespace is deleted, without waiting.
        drop(self.cluster.try_kubectl(&["delete", "namespace", "--wait=false", "--now", &self.name], ""));
    }
}

/// The network namespaces of the pods of a node, by file name.
pub(crate) fn networks(cluster: &Cluster, node: &str) -> BTreeMap<String, Namespace> {
    let directory = cluster.root(node).join("run/netns");
    let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
    let files = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        Some((name.clone(), Namespace::open(name, entry.path()).ok()?))
    });
    files.collect()
}

/// The source address of a pod's packets to `to`, as soon as it has one and a route.
pub(crate) fn source(network: &Namespace, to: IpAddr) -> Option<IpAddr> {
    let chosen = network.run(|| -> std::io::Result<IpAddr> {
        let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((to, 9))?;
        Ok(socket.local_addr()?.ip())
    });
    chosen.ok()?.ok()
}

/// Whether a network namespace has an address.
fn has(network: &Namespace, address: IpAddr) -> bool {
    // A file that is not a network namespace yet, or no longer.
    network.run(|| UdpSocket::bind((address, 0)).is_ok()).unwrap_or(false)
}

/// The destinations that senders reach over TCP: a line for each sender, a letter for each destination.
pub(crate) fn reached(senders: &[(&str, &Namespace)], destinations: &[(IpAddr, u16)]) -> BTreeMap<String, String> {
    let flows: Vec<_> = senders
        .iter()
        .flat_map(|(_, sender)| destinations.iter().map(move |(address, port)| Flow::tcp(sender, *address, *port)))
        .collect();
    let outcomes = probe_all(&flows, PROBE).unwrap();
    let letters: Vec<_> = outcomes.iter().map(|outcome| if outcome.is_reachable() { '+' } else { '-' }).collect();
    let lines = senders.iter().zip(letters.chunks(destinations.len()));
    lines.map(|((name, _), letters)| ((*name).to_owned(), letters.iter().collect())).collect()
}

/// Waits until a client reaches a server at all its addresses, and a stranger at none.
pub(crate) fn in_force(server: &Pod, client: &Pod, stranger: &Pod) {
    let _echo = Server::start(&server.network, &server.addresses, &[Listen::tcp(PORT)]).unwrap();
    let destinations: Vec<_> = server.addresses.iter().map(|address| (*address, PORT)).collect();
    let (all, none) = ("+".repeat(destinations.len()), "-".repeat(destinations.len()));
    within(PATIENCE, "the policy in force", || {
        let reached = reached(&[("client", &client.network), ("stranger", &stranger.network)], &destinations);
        (reached["client"] == all && reached["stranger"] == none).then_some(())
    });
}
