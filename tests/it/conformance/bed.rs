//! Two nodes with an agent each, an API server, pods of every stack and a Service for each of their ports.
//!
//! All cases share them. A case has its own namespaces and pods in the API server; its pods have the IPs of the lab's
//! pods, which no other case uses at that time.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use palisade_lab::{
    Family as LabFamily, Flow, Lab, Layout, Listen, Namespace, Outcome, Pod, PodSpec, Protocol as LabProtocol, Service,
    Signal, probe_all,
};
use palisade_policy::input::{Family, Protocol};
use palisade_testkit::apiserver::{ApiServer, namespace_path, network_policy_path, pod_path};
use serde_json::json;

use crate::common::running::Agent;
use crate::conformance::cluster::{Cluster, Plan, SIX_ONLY, Stack, Write, node_of};
use crate::conformance::offline::families;
use crate::conformance::table::{Case, Expect, PODS, Step, Transport, Way};

/// Services lead from a port to the same port of their pod.
const SERVICE_PORTS: [u16; 2] = [80, 81];
/// Time limit of an allowed conversation on a busy machine. Its first packet passed before.
const CONVERSATION: Duration = Duration::from_secs(10);
/// Selects the barrier's peers of the current round, once as pods and once as pods of a namespace.
const BARRIER: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: barrier, namespace: barrier}
spec:
  podSelector: {}
  ingress:
  - from:
    - podSelector: {matchLabels: {round: 'ROUND'}}
    - namespaceSelector: {matchLabels: {round: 'ROUND'}}
";

/// The number of beds in this process so far.
static BEDS: AtomicU32 = AtomicU32::new(0);

/// The pods of the lab by stack and name.
type Pods = BTreeMap<(Stack, &'static str), Pod>;

pub(crate) struct Bed {
    lab: Lab,
    api: ApiServer,
    agents: Vec<Agent>,
    pods: Pods,
    /// The Service IP of each pod IP.
    services: BTreeMap<IpAddr, IpAddr>,
    /// All other ends, by name.
    others: BTreeMap<String, Namespace>,
    plans: BTreeMap<Stack, Plan>,
    round: u32,
    scratch: PathBuf,
}

/// A packet to send and its fate according to the table.
struct Trial {
    flow: Flow,
    /// Its destination, by the name of the namespace in the lab.
    place: String,
    expected: bool,
    what: String,
}

impl Bed {
    /// With these additional flags of the API server.
    pub(crate) fn new(flags: &[&str]) -> Self {
        let lab = Lab::builder().node(Layout::Bridge).node(Layout::Routed).build().unwrap();
        let serial = BEDS.fetch_add(1, Ordering::Relaxed);
        let scratch = std::env::temp_dir().join(format!("palisade-conformance-{}-{serial}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        let world: [IpAddr; 2] = ["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let host = lab.add_host("world", &world).unwrap();
        host.serve(&listens()).unwrap();
        let mut others = BTreeMap::from([("world".to_owned(), host.namespace().clone())]);
        for (name, address) in SIX_ONLY {
            let host = lab.add_host(name, &[address.parse().unwrap()]).unwrap();
            host.serve(&listens()).unwrap();
            others.insert(name.to_owned(), host.namespace().clone());
        }
        let (pods, services) = add_pods(&lab);
        for node in lab.nodes() {
            node.serve(&listens()).unwrap();
            others.insert(node.name().to_owned(), node.namespace().clone());
        }
        let plans = Stack::ALL.map(|stack| (stack, plan(&lab, &pods, stack, &world))).into();
        let launcher = host.clone();
        let builder = ApiServer::builder()
            .launcher(move |command| launcher.namespace().run(|| command.spawn()).map_err(io::Error::other)?)
            .address(world[0]);
        let api = flags.iter().fold(builder, |builder, flag| builder.flag(flag)).start().unwrap();
        let mut bed = Self { lab, api, agents: Vec::new(), pods, services, others, plans, round: 0, scratch };
        bed.build_barrier();
        bed.start_agents();
        bed
    }

    fn start_agents(&mut self) {
        for node in self.lab.nodes() {
            let kubeconfig = self.api.kubeconfig();
            let source = ["--kubeconfig", kubeconfig.to_str().unwrap()];
            self.agents.push(Agent::start(node, "127.0.0.1:9440", &source, &self.scratch.join(node.name())));
        }
        self.agents.iter().for_each(Agent::wait_ready);
    }

    /// Ends every agent, and starts another one.
    fn restart_agents(&mut self) {
        for agent in self.agents.drain(..) {
            agent.end(Signal::SIGTERM);
        }
        self.start_agents();
    }

    /// Runs all cases; returns the failures as text.
    pub(crate) fn all_failures(&mut self, cases: &[Case]) -> Vec<String> {
        let cases = cases.iter().enumerate().filter(|(_, case)| case.ways.contains(&Way::Packets));
        cases.flat_map(|(number, case)| self.failures(number, case)).collect()
    }

    /// Runs a case in all stacks at once; returns the failures as text.
    pub(crate) fn failures(&mut self, number: usize, case: &Case) -> Vec<String> {
        for node in self.lab.nodes() {
            node.conntrack(&["-F"]).unwrap();
        }
        let suffix = number.to_string();
        let cluster = |stack: &Stack| Cluster::new(*stack, &suffix, &self.plans[stack], &case.steps);
        let mut clusters: Vec<_> = case.stacks.iter().map(cluster).collect();
        let mut writes: Vec<_> = clusters.iter().flat_map(Cluster::create).collect();
        let mut failures = Vec::new();
        for (number, step) in case.steps.iter().enumerate() {
            if matches!(step, Step::Restart) {
                self.restart_agents();
                continue;
            }
            writes.extend(clusters.iter_mut().flat_map(|cluster| cluster.apply(step)));
            let Step::Expect(expect) = step else { continue };
            if !writes.is_empty() {
                writes.drain(..).for_each(|write| self.write(&write));
                self.pass_barrier();
            }
            let trials: Vec<_> = clusters.iter().flat_map(|cluster| self.trials(cluster, expect)).collect();
            let place = format!("{}, step {}", case.name, number + 1);
            failures.extend(self.hold(&trials).into_iter().map(|failure| format!("{place}: {failure}")));
        }
        for namespace in clusters.iter().flat_map(Cluster::namespace_names) {
            self.api.delete_namespace(&namespace).unwrap();
        }
        failures
    }

    fn write(&self, write: &Write) {
        let done = match write {
            Write::Create(object) => self.api.create(object).map(drop),
            Write::Patch(path, patch) => self.api.patch(path, patch).map(drop),
            Write::Apply(path, manifest) => self.api.apply_text(path, manifest).map(drop),
            Write::Delete(path) => self.api.delete(path),
            Write::Store(object) => self.others["world"].run(|| self.api.store_policy(object)).unwrap(),
            Write::Terminate(path) => {
                let grace = json!({ "gracePeriodSeconds": 600 });
                self.api.request("DELETE", path, Some(&grace)).map(drop)
            }
        };
        done.unwrap_or_else(|error| panic!("{error}\n{write:?}"));
    }

    // === the barrier ===

    /// A pod of each node that a policy of the barrier isolates, and a peer on another node.
    fn build_barrier(&self) {
        self.api.create_namespace("barrier", &json!({})).unwrap();
        for node in self.lab.nodes() {
            let pod = node.add_pod("barrier").unwrap();
            self.api.create_pod("barrier", node.name(), node.name(), &json!({})).unwrap();
            self.api.set_pod_running("barrier", node.name(), &pod.addresses()).unwrap();
        }
        self.api.create_pod("barrier", "peer", "elsewhere", &json!({})).unwrap();
        self.api.set_pod_running("barrier", "peer", &["10.42.99.9".parse().unwrap()]).unwrap();
    }

    /// Waits until every agent has enforced every write so far.
    ///
    /// A watch delivers the changes of one kind of object in order. So the barrier makes a last change of each kind and
    /// waits for it in the kernel: the policy names the sets of this round, and they have their elements by the labels.
    /// Everything committed along with it is complete when the loop answers a scrape, which it does only between
    /// commits.
    fn pass_barrier(&mut self) {
        self.round += 1;
        let round = self.round.to_string();
        let labels = json!({ "round": round });
        self.api.label(&pod_path("barrier", "peer"), &labels).unwrap();
        self.api.label(&namespace_path("barrier"), &labels).unwrap();
        let policy = BARRIER.replace("ROUND", &round);
        self.api.apply_text(&network_policy_path("barrier", "barrier"), &policy).unwrap();
        for (node, agent) in self.lab.nodes().iter().zip(&self.agents) {
            agent.wait(&format!("commit of round {round}"), || {
                let table = node.namespace().output("nft", &["list", "table", "inet", "palisade"], "").unwrap();
                let filled = |scope: &str| {
                    let sets = table.split("\n\n").filter(|part| part.contains(&format!("comment \"{scope}")));
                    sets.filter(|part| part.contains("elements = {")).count() > 0
                };
                filled(&format!("namespace barrier: round={round};")) && filled(&format!("namespaces round={round}:"))
            });
            agent.wait("end of all that follows", || agent.is_at_rest());
        }
    }

    // === packets ===

    /// The packets of a matrix, in every family that both ends have. Packets to pods go through the Service.
    fn trials(&self, cluster: &Cluster, expect: &Expect) -> Vec<Trial> {
        let mut trials = Vec::new();
        for ((from, to), expected) in &expect.reaches {
            for family in families(cluster, from, to) {
                let addresses = cluster.addresses(to).iter().copied();
                let address = addresses.into_iter().find(|address| Family::of(*address) == family).unwrap();
                let (protocol, port) = in_lab(expect.transport);
                let serves = SERVICE_PORTS.contains(&port) && (from.contains('/') || from.starts_with("node-"));
                let service = self.services.get(&address).filter(|_| serves);
                let flow = Flow::new(self.namespace(cluster.stack, from), protocol, *service.unwrap_or(&address), port);
                let place = self.namespace(cluster.stack, to).name().to_owned();
                let what = format!("{}, {} {from} to {to}, {family}", cluster.stack.name(), expect.transport);
                trials.push(Trial { flow, place, expected: *expected, what });
            }
        }
        trials
    }

    fn namespace(&self, stack: Stack, name: &str) -> &Namespace {
        match PODS.iter().find(|pod| **pod == name) {
            Some(pod) => self.pods[&(stack, *pod)].namespace(),
            None => &self.others[name],
        }
    }

    /// Sends one packet of each flow, which must arrive where expected or nowhere, and then a whole conversation of
    /// each allowed one. Nothing is retried.
    fn hold(&self, trials: &[Trial]) -> Vec<String> {
        let shots: Vec<_> = trials.iter().map(|trial| trial.flow.clone()).collect();
        let arrived = self.lab.shoot_where(&shots).unwrap();
        let mut failures = Vec::new();
        let mut allowed = Vec::new();
        for (trial, arrived) in trials.iter().zip(arrived) {
            if arrived.as_ref() != trial.expected.then_some(&trial.place) {
                let arrived = arrived.as_deref().unwrap_or("nowhere");
                failures.push(format!("{}: the packet arrived {arrived}, expected {}", trial.what, trial.expected));
            } else if trial.expected {
                allowed.push(trial);
            }
        }
        let flows: Vec<_> = allowed.iter().map(|trial| trial.flow.clone()).collect();
        let outcomes = probe_all(&flows, CONVERSATION).unwrap();
        for (trial, outcome) in allowed.iter().zip(outcomes) {
            if outcome != Outcome::Reachable {
                failures.push(format!("{}: {outcome:?}, although its first packet arrived", trial.what));
            }
        }
        failures
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.scratch).ok();
    }
}

fn listens() -> Vec<Listen> {
    let ports = 79..=84;
    let of = |port| [Listen::tcp(port), Listen::udp(port), Listen::sctp(port)];
    ports.flat_map(of).collect()
}

fn in_lab(transport: Transport) -> (LabProtocol, u16) {
    match transport {
        Transport::Port(Protocol::Tcp, port) => (LabProtocol::Tcp, port),
        Transport::Port(Protocol::Udp, port) => (LabProtocol::Udp, port),
        Transport::Port(Protocol::Sctp, port) => (LabProtocol::Sctp, port),
        Transport::Ping => (LabProtocol::Icmp, 0),
    }
}

/// The pods of all stacks, and a Service for each of their addresses.
fn add_pods(lab: &Lab) -> (Pods, BTreeMap<IpAddr, IpAddr>) {
    let (mut pods, mut services, mut all) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut number = 0u8;
    for stack in Stack::ALL {
        for name in PODS {
            number += 1;
            let spec = PodSpec::new(format!("{}/{name}", stack.name()));
            let spec = match stack {
                Stack::Four => spec.only_ipv4(),
                Stack::Six => spec.only_ipv6(),
                Stack::Dual => spec,
            };
            let pod = lab.node(node_of(name)).add_pod_with(spec).unwrap();
            pod.serve(&listens()).unwrap();
            let own = [[10, 96, 0, number].into(), [0xfd96, 0, 0, 0, 0, 0, 0, number.into()].into()];
            let own: Vec<IpAddr> = own.into_iter().filter(|address| stack.has(address)).collect();
            services.extend(pod.addresses().into_iter().zip(own.iter().copied()));
            for protocol in [LabProtocol::Tcp, LabProtocol::Udp, LabProtocol::Sctp] {
                for port in SERVICE_PORTS {
                    let name = format!("{}-{protocol}-{port}", pod.name());
                    all.push(Service::new(name, (protocol, port), &own, (&pod, port)));
                }
            }
            pods.insert((stack, name), pod);
        }
    }
    lab.add_services(all).unwrap();
    (pods, services)
}

/// The addresses in a stack.
fn plan(lab: &Lab, pods: &Pods, stack: Stack, world: &[IpAddr]) -> Plan {
    let mut plan: Plan = PODS.iter().map(|name| ((*name).to_owned(), pods[&(stack, *name)].addresses())).collect();
    for node in lab.nodes() {
        plan.insert(node.name().to_owned(), [LabFamily::V4, LabFamily::V6].map(|family| node.address(family)).into());
    }
    plan.insert("world".to_owned(), world.to_vec());
    plan.extend(SIX_ONLY.map(|(name, address)| (name.to_owned(), vec![address.parse().unwrap()])));
    plan
}
