//! The stage: a lab, its pods and Service, the manifests, and an agent on each node.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use palisade_lab::{Lab, Layout, Listen, Node, Pod, Protocol, Service};
use palisade_policy::input::State;

use super::agent::{Agent, Commit};
use super::leftovers::Leftovers;
use super::manifests::{self, Manifest, PORT, SERVICE_PORT};
use crate::output::Failure;

/// The pods, by node, in the order of the matrix.
const PODS: [(&str, usize); 4] = [("shop/frontend", 1), ("shop/backend", 1), ("shop/db", 2), ("ops/monitor", 1)];

/// Everything that the demo runs on.
#[derive(Debug)]
pub(super) struct Stage {
    lab: Lab,
    pods: Vec<Pod>,
    service: [IpAddr; 2],
    leftovers: Leftovers,
    agents: Vec<Agent>,
}

impl Stage {
    /// Builds the lab; also returns how long that took.
    pub(super) fn set(leftovers: Leftovers) -> Result<(Self, Duration), Failure> {
        let started = Instant::now();
        let lab = Lab::builder().nodes(2, Layout::Bridge).build()?;
        let mut pods = Vec::new();
        for (name, node) in PODS {
            let pod = lab.node(node).add_pod(name)?;
            pod.serve(&[Listen::tcp(PORT), Listen::udp(PORT)])?;
            pods.push(pod);
        }
        let service: [IpAddr; 2] = [[10, 96, 0, 10].into(), [0xfd96, 0, 0, 0, 0, 0, 0, 0x10].into()];
        let stage = Self { lab, pods, service, leftovers, agents: Vec::new() };
        let backend = stage.pod("shop/backend")?;
        for (name, protocol) in [("backend-tcp", Protocol::Tcp), ("backend-udp", Protocol::Udp)] {
            stage.lab.add_service(Service::new(name, (protocol, SERVICE_PORT), &service, (backend, PORT)))?;
        }
        Ok((stage, started.elapsed()))
    }

    /// Writes the objects, starts the agents and waits until they are ready; returns how long that took.
    pub(super) fn start_agents(&mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        let placed: Vec<_> = self.pods.iter().filter_map(|pod| Some((self.node_of(pod)?, pod))).collect();
        self.put("00-pods.yaml", &manifests::objects(&["shop", "ops"], &placed))?;
        let agents = self.lab.nodes().iter().map(|node| Agent::start(node, &self.leftovers));
        self.agents = agents.collect::<Result<_, _>>()?;
        for agent in &mut self.agents {
            agent.await_ready()?;
            // Skip their first commits.
            agent.await_policies(0, started)?;
        }
        Ok(started.elapsed())
    }

    /// Ends the agents and removes everything.
    pub(super) fn strike(self) {
        self.leftovers.clear();
    }

    /// The lab.
    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A node, counted from 1.
    pub(super) fn node(&self, number: usize) -> &Node {
        self.lab.node(number)
    }

    /// The pods, in the order of the matrix.
    pub(super) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The pod of that name.
    pub(super) fn pod(&self, name: &str) -> Result<&Pod, Failure> {
        self.pods.iter().find(|pod| pod.name() == name).ok_or_else(|| Failure::new(format!("there is no pod {name}")))
    }

    /// The node that a pod is on.
    pub(super) fn node_of(&self, pod: &Pod) -> Option<&Node> {
        self.lab.nodes().iter().find(|node| node.name() == pod.node())
    }

    /// The IPs of the Service of shop/backend, IPv4 first.
    pub(super) fn service(&self) -> [IpAddr; 2] {
        self.service
    }

    /// Writes a manifest; returns the time before that.
    pub(super) fn write(&self, manifest: &Manifest) -> Result<Instant, Failure> {
        let begun = Instant::now();
        self.put(manifest.file, &manifest.text())?;
        Ok(begun)
    }

    /// Removes a manifest; returns the time before that.
    pub(super) fn remove(&self, manifest: &Manifest) -> Result<Instant, Failure> {
        let begun = Instant::now();
        self.leftovers
            .remove(manifest.file)
            .map_err(|error| Failure::caused(&format!("cannot remove {}", manifest.file), &error))?;
        Ok(begun)
    }

    fn put(&self, file: &str, text: &str) -> Result<(), Failure> {
        self.leftovers.write(file, text).map_err(|error| Failure::caused(&format!("cannot write {file}"), &error))
    }

    /// The objects in the manifests, read as the agents read them.
    pub(super) fn state(&self) -> Result<State, Failure> {
        let read = palisade_watch::read_manifests(&[self.leftovers.directory().to_owned()]);
        read.map(State::from).map_err(|errors| Failure::new(errors.to_string()))
    }

    /// Waits until every agent enforces the manifests as of `changed`; returns their commits.
    pub(super) fn await_commits(&mut self, changed: Instant) -> Result<Vec<Commit>, Failure> {
        let count = self.state()?.policies.len();
        let mut commits = Vec::new();
        for agent in &mut self.agents {
            commits.extend(agent.await_policies(count, changed)?);
        }
        Ok(commits)
    }
}
