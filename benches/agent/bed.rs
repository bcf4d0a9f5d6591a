//! A network namespace as a node, an API server with a cluster, and the start of agents.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use palisade_lab::Namespace;
use palisade_testkit::fakeapi::{FakeApi, Resource, Verb};

use crate::neighbour::Neighbour;
use crate::process::Agent;
use crate::workload::{Workload, served};

pub(crate) struct Bed {
    pub(crate) api: FakeApi,
    pub(crate) namespace: Namespace,
    directory: PathBuf,
}

/// A started agent.
pub(crate) struct Start {
    pub(crate) agent: Agent,
    pub(crate) times: Times,
}

/// How it started.
pub(crate) struct Times {
    /// From its start, and from the last byte of the last list, to its line about the first commit.
    pub(crate) whole: Duration,
    pub(crate) own: Duration,
    pub(crate) operations: f64,
}

impl Bed {
    pub(crate) fn new(workload: Workload) -> Self {
        let namespace = Namespace::new("node-0").expect("CAP_SYS_ADMIN, for a network namespace");
        namespace.output("ip", &["link", "set", "lo", "up"], "").expect("ip, from package iproute2");
        let place = namespace.clone();
        let bind = move |address| place.run(|| TcpListener::bind(address)).map_err(std::io::Error::other)?;
        let api = FakeApi::start_where(bind).expect("a listening socket");
        api.load(served(&workload.state()));
        let name = format!("palisade-bench-{}-{}", std::process::id(), workload.name());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        api.write_kubeconfig(&directory.join("kubeconfig")).expect("a file");
        Self { api, namespace, directory }
    }

    /// Starts an agent, and waits for its first commit. Nobody listens to the kernel's notices meanwhile: for large
    /// commits, writing them takes as long as the rest.
    pub(crate) fn start(&self) -> Start {
        self.started(Agent::start(&self.namespace, &self.directory))
    }

    /// The same without a table of an earlier agent, and while another program commits.
    pub(crate) fn start_afresh(&self) -> (Start, Vec<Duration>) {
        // There is none the first time.
        self.namespace.nft("delete table inet palisade\n").ok();
        Neighbour::settle(&self.namespace);
        let agent = Agent::start(&self.namespace, &self.directory);
        // Starting a program stops the threads of this process for a while.
        agent.wait("list of pods", || self.api.count_since(agent.started, Verb::List, Resource::Pods) > 0);
        let neighbour = Neighbour::start(&self.namespace);
        let start = self.started(agent);
        let waits = neighbour.stop();
        self.namespace.nft("delete table ip neighbour\n").expect("the table of another program");
        (start, waits)
    }

    fn started(&self, agent: Agent) -> Start {
        let at = agent.wait_for("committed");
        let listed = self.api.listed().expect("lists were asked for");
        let operations = agent.metrics().get("palisade_commit_operations_total").copied().unwrap_or_default();
        let (whole, own) = (at.saturating_duration_since(agent.started), at.saturating_duration_since(listed));
        Start { agent, times: Times { whole, own, operations } }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}
