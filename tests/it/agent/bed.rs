//! A node with two pods, their objects, and the content of the node's kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use palisade_lab::{Flow, Lab, Layout, Node, Pod};
use serde_json::json;

use crate::common::listing::without_stamps;
use crate::common::running::{Agent, logged};

/// Nothing may reach the pods of namespace shop.
pub(crate) const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: shop}
spec: {podSelector: {}}
";

/// Pods labelled `app=client`, in namespaces labelled `team=friends`, may reach shop/web.
pub(crate) const ALLOW: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-allow, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: friends}}, podSelector: {matchLabels: {app: client}}}]}]
";

/// The address on which agents listen, each in its node's namespace.
pub(crate) const LISTEN: &str = "127.0.0.1:9440";

/// A node with a bridge, the pods shop/web and ops/client on it, and a directory with their manifests.
pub(crate) struct Bed {
    pub(crate) lab: Lab,
    pub(crate) web: Pod,
    pub(crate) client: Pod,
    /// Removed at the end of the test.
    scratch: PathBuf,
}

impl Bed {
    pub(crate) fn new(name: &str) -> Self {
        let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
        let (web, client) = (lab.node(1).add_pod("shop/web").unwrap(), lab.node(1).add_pod("ops/client").unwrap());
        let scratch = std::env::temp_dir().join(format!("palisade-agent-{name}-{}", std::process::id()));
        fs::create_dir_all(scratch.join("manifests")).unwrap();
        let bed = Self { lab, web, client, scratch };
        bed.write("pods.yaml", &bed.pod_manifests());
        bed
    }

    pub(crate) fn node(&self) -> &Node {
        self.lab.node(1)
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.scratch.join("manifests")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.scratch.join("log")
    }

    /// The manifests of the two pods.
    pub(crate) fn pod_manifests(&self) -> String {
        pod_manifest(&self.web) + &pod_manifest(&self.client)
    }

    /// Writes a manifest, as an editor does.
    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.manifests().join(file), text).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.manifests().join(file)).unwrap();
    }

    /// An agent on the manifests.
    pub(crate) fn agent(&self) -> Agent {
        self.agent_at(LISTEN)
    }

    /// An agent on the manifests that leaves bridges as they are.
    pub(crate) fn agent_that_checks_bridges(&self) -> Agent {
        let manifests = self.manifests();
        let arguments = ["--manifests", manifests.to_str().unwrap(), "--bridge-netfilter", "check"];
        Agent::start(self.node(), LISTEN, &arguments, &self.log())
    }

    /// An agent on the manifests with another listening address.
    pub(crate) fn agent_at(&self, listen: &'static str) -> Agent {
        Agent::start(self.node(), listen, &["--manifests", self.manifests().to_str().unwrap()], &self.log())
    }

    /// An agent on an API server.
    pub(crate) fn agent_of(&self, kubeconfig: &Path) -> Agent {
        self.agent_with(kubeconfig, &[])
    }

    /// The same with additional arguments.
    pub(crate) fn agent_with(&self, kubeconfig: &Path, further: &[&str]) -> Agent {
        let arguments = [&["--kubeconfig", kubeconfig.to_str().unwrap()], further].concat();
        Agent::start(self.node(), LISTEN, &arguments, &self.log())
    }

    /// The number of lines of the agents' log with this message.
    pub(crate) fn logged(&self, message: &str) -> usize {
        logged(&self.log(), message)
    }

    /// The first packet of each flow from ops/client to shop/web passes, or none does: a TCP SYN, a UDP datagram and a
    /// ping, in both families.
    pub(crate) fn assert_reached(&self, reached: bool) {
        let flows: Vec<_> = self
            .web
            .addresses()
            .into_iter()
            .flat_map(|to| {
                [Flow::tcp(&self.client, to, 80), Flow::udp(&self.client, to, 80), Flow::ping(&self.client, to)]
            })
            .collect();
        let found = self.lab.shoot(&flows).unwrap();
        assert_eq!(found, [reached; 6], "{flows:#?}\n{}", self.list_all());
    }

    /// nft's output on the node.
    pub(crate) fn nft(&self, arguments: &[&str]) -> String {
        self.node().namespace().output("nft", arguments, "").unwrap()
    }

    /// All of the node's nftables.
    pub(crate) fn list_all(&self) -> String {
        self.nft(&["-a", "list", "ruleset"])
    }

    /// Table inet palisade, with the values of counters.
    pub(crate) fn list(&self) -> String {
        self.nft(&["list", "table", "inet", "palisade"])
    }

    /// Table inet palisade with its handle and those of all its objects and rules, without the values of counters, without
    /// its owner and without stamps. (A new table counts handles from 1 again; only its own handle differs.)
    pub(crate) fn handles(&self) -> String {
        let listing = self.nft(&["-a", "-s", "list", "table", "inet", "palisade"]);
        let (heading, rest) = listing.split_once('\n').unwrap();
        let heading = heading.split(" progname").next().unwrap();
        assert!(heading.contains("# handle "), "{heading}");
        let lines = without_stamps(rest).filter(|line| !line.starts_with("\tflags "));
        [heading].into_iter().chain(lines).flat_map(|line| [line, "\n"]).collect()
    }

    /// The heading of table inet palisade: its owner and flags.
    pub(crate) fn heading(&self) -> String {
        self.list().lines().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Whether there is a table inet palisade.
    pub(crate) fn has_table(&self) -> bool {
        self.nft(&["list", "tables"]).lines().any(|line| line == "table inet palisade")
    }

    /// Runs `palisade cleanup` on the node; returns its exit status and stderr.
    pub(crate) fn cleanup(&self) -> (Option<i32>, String) {
        let mut command = self.node().command(env!("CARGO_BIN_EXE_palisade"));
        let output = command.arg("cleanup").stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.scratch).ok();
    }
}

/// A running pod of the lab as a manifest, labelled with its name.
pub(crate) fn pod_manifest(pod: &Pod) -> String {
    let (namespace, name) = pod.name().split_once('/').unwrap();
    let addresses: Vec<_> = pod.addresses().iter().map(|ip| json!({ "ip": ip })).collect();
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": { "app": name } },
        "spec": { "nodeName": pod.node() },
        "status": { "phase": "Running", "podIPs": addresses },
    });
    format!("---\n{manifest}\n")
}
