//! The cluster that `hack/cluster` started, through kubectl and through the consoles of its machines.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use palisade_lab::Namespace;

/// Time for the cluster's own actions: scheduling, starting pods, a rollout.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The polling interval for what may last only a moment.
pub(crate) const HASTE: Duration = Duration::from_millis(1);

pub(crate) const NODES: [&str; 2] = ["node1", "node2"];

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// There is one cluster, and every test affects the others: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

pub(crate) struct Cluster {
    directory: PathBuf,
    /// The part of its machines' names that distinguishes them from another cluster's.
    suffix: String,
    /// The image of idle pods, and of pods that answer probes.
    pub(crate) agnhost: String,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// The running cluster.
    pub(crate) fn take() -> Self {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // As hack/cluster wrote it.
        let suffix = std::env::var("PALISADE_CLUSTER").map(|name| format!(".{name}")).unwrap_or_default();
        let cache = std::env::var_os("PALISADE_CACHE").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/palisade"),
            PathBuf::from,
        );
        let directory = cache.join(format!("cluster{suffix}"));
        let settings = fs::read_to_string(directory.join("settings"));
        let settings = settings.expect("no cluster is up: run hack/e2e, or hack/cluster up");
        let programs = settings.lines().find_map(|line| line.strip_prefix("PROGRAMS=")).expect("PROGRAMS in settings");
        let names = fs::read_to_string(Path::new(programs).join("images/NAMES")).unwrap();
        let agnhost = names.lines().find(|name| name.contains("/agnhost:")).expect("the image of agnhost").to_owned();
        Self { directory, suffix, agnhost, _turn: turn }
    }

    /// The same, with agents that are ready.
    pub(crate) fn enforced() -> Self {
        let cluster = Self::take();
        cluster.install();
        cluster
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, "").unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Standard output, or standard error of a failure.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        self.script(&[&["kubectl"], arguments].concat(), input)
    }

    /// Runs a program at the console of a machine.
    pub(crate) fn on(&self, part: &str, command: &[&str]) -> String {
        self.try_on(part, command).unwrap_or_else(|error| panic!("{command:?} on {part}: {error}"))
    }

    pub(crate) fn try_on(&self, part: &str, command: &[&str]) -> Result<String, String> {
        self.script(&[&["on", part], command].concat(), "")
    }

    /// Installs from the shipped manifest and waits for every agent.
    pub(crate) fn install(&self) {
        self.kubectl(&["apply", "--filename", &format!("{REPOSITORY}/manifests/install.yaml")]);
        self.rolled_out();
    }

    pub(crate) fn rolled_out(&self) {
        self.kubectl(&["rollout", "status", "--namespace=kube-system", "daemonset/palisade", "--timeout=120s"]);
    }

    /// Uninstalls, and removes the rulesets.
    pub(crate) fn uninstall(&self) {
        let manifests = |name: &str| format!("{REPOSITORY}/manifests/{name}");
        self.kubectl(&["delete", "--ignore-not-found", "--wait", "--filename", &manifests("install.yaml")]);
        self.kubectl(&["apply", "--filename", &manifests("cleanup.yaml")]);
        self.kubectl(&["rollout", "status", "--namespace=kube-system", "daemonset/palisade-cleanup", "--timeout=120s"]);
        self.kubectl(&["delete", "--wait", "--filename", &manifests("cleanup.yaml")]);
        // The objects are deleted a moment before the pods.
        within(PATIENCE, "an end of all agents", || {
            let left = ["--namespace=kube-system", "--selector=app.kubernetes.io/name in (palisade,palisade-cleanup)"];
            let pods = self.kubectl(&[&["get", "pods", "--output=name"], &left[..]].concat());
            pods.trim().is_empty().then_some(())
        });
    }

    /// Ends a node and starts it again, with new network namespaces.
    pub(crate) fn restart(&self, node: &str) {
        self.script(&["restart", node], "").unwrap_or_else(|error| panic!("restart {node}: {error}"));
    }

    /// The network namespace of a machine.
    pub(crate) fn machine(&self, part: &str) -> Namespace {
        Namespace::open(part, self.network_path(part)).unwrap()
    }

    pub(crate) fn network_path(&self, part: &str) -> PathBuf {
        PathBuf::from(format!("/run/netns/palisade{}-{part}", self.suffix))
    }

    /// The root directory of a node, seen from outside.
    pub(crate) fn root(&self, node: &str) -> PathBuf {
        let holder = fs::read_to_string(self.directory.join("holders").join(node)).unwrap();
        let holder = holder.trim();
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap();
        let first = children.split_whitespace().next().unwrap_or_else(|| panic!("{node} has ended"));
        PathBuf::from(format!("/proc/{first}/root"))
    }

    /// `hack/cluster`: standard output, or standard error of a failure.
    fn script(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(Path::new(REPOSITORY).join("hack/cluster"))
            .args(arguments)
            .env("PALISADE_CLUSTER", self.suffix.trim_start_matches('.'))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read its input has failed and reports it.
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap_or(());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        if status.success() {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&stderr).trim().to_owned())
        }
    }
}

/// Polls until there is an answer.
pub(crate) fn within<T>(limit: Duration, what: &str, ask: impl FnMut() -> Option<T>) -> T {
    asked_every(Duration::from_millis(100), limit, what, ask)
}

/// The same, with another interval.
pub(crate) fn asked_every<T>(pause: Duration, limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(pause);
    }
}
