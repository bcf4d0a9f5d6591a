//! The connectivity matrix: what the policies say, and what packets did.

use std::net::IpAddr;
use std::time::Duration;

use palisade_lab::{Flow, Pod, Protocol, probe_all};
use palisade_policy::flow::{self, Endpoint, NodeFacts, Transport, Verdict};
use palisade_policy::input::{self, NamespacedName};
use palisade_policy::reference::Reference;

use super::manifests::{PORT, SERVICE_PORT};
use super::stage::Stage;
use crate::output::Failure;

/// How long a connection may take before it counts as blocked. All are tried at the same time.
const DEADLINE: Duration = Duration::from_millis(600);

/// The protocol and family of each connection between a client and a server.
const KINDS: [(Protocol, usize, &str); 4] = [
    (Protocol::Tcp, 0, "TCP over IPv4"),
    (Protocol::Tcp, 1, "TCP over IPv6"),
    (Protocol::Udp, 0, "UDP over IPv4"),
    (Protocol::Udp, 1, "UDP over IPv6"),
];

/// Every connection at one moment.
#[derive(Debug)]
pub(super) struct Matrix {
    /// The names of the servers.
    pub(super) columns: Vec<String>,
    /// The clients, with their cells; `None` is a pod and itself.
    pub(super) rows: Vec<(String, Vec<Option<Cell>>)>,
}

/// The connections from a client to a server, in the order of [`KINDS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) expected: [bool; 4],
    pub(super) measured: [bool; 4],
}

/// A server: a pod, directly or through its Service.
struct Target<'a> {
    name: String,
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
    port: u16,
}

impl Matrix {
    /// Tries every connection, and asks the reference evaluator about each.
    pub(super) fn measure(stage: &Stage) -> Result<Self, Failure> {
        let targets = targets(stage)?;
        let state = stage.state()?;
        let facts = NodeFacts::default();
        let reference = Reference::new(&state, &facts);
        let mut flows = Vec::new();
        let mut rows = Vec::new();
        for client in stage.pods().iter().map(Some).chain([None]) {
            let mut cells = Vec::new();
            for target in &targets {
                let (from, endpoint) = match client {
                    Some(pod) if pod.name() == target.pod.name() => {
                        cells.push(None);
                        continue;
                    }
                    Some(pod) => (pod.namespace(), pod_endpoint(pod)),
                    None => {
                        let node = stage.node_of(target.pod).ok_or_else(|| Failure::new("a pod is on no node"))?;
                        (node.namespace(), Endpoint::Node(node.name().into()))
                    }
                };
                let mut expected = [false; 4];
                for (answer, (protocol, family, _)) in expected.iter_mut().zip(KINDS) {
                    *answer = expect(&reference, endpoint.clone(), target.pod, protocol, family)?;
                }
                flows.extend(target.flows(from));
                cells.push(Some(Cell { expected, measured: [false; 4] }));
            }
            rows.push((client.map_or("own node", Pod::name).to_owned(), cells));
        }
        let mut outcomes = probe_all(&flows, DEADLINE)?.into_iter();
        for cell in rows.iter_mut().flat_map(|(_, cells)| cells).flatten() {
            for (measured, outcome) in cell.measured.iter_mut().zip(&mut outcomes) {
                *measured = outcome.is_reachable();
            }
        }
        Ok(Self { columns: targets.into_iter().map(|target| target.name).collect(), rows })
    }

    /// How many connections were tried.
    pub(super) fn flows(&self) -> usize {
        self.rows.iter().flat_map(|(_, cells)| cells).flatten().count() * KINDS.len()
    }

    /// The connections whose result differs from the expected one, in words.
    pub(super) fn mismatches(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (from, cells) in &self.rows {
            for (to, cell) in self.columns.iter().zip(cells) {
                let Some(cell) = cell else { continue };
                let both = cell.expected.iter().zip(&cell.measured).zip(KINDS);
                for ((expected, measured), (_, _, kind)) in
                    both.filter(|((expected, measured), _)| expected != measured)
                {
                    let word = |reached: bool| if reached { "reached" } else { "not reached" };
                    let (expected, measured) = (word(*expected), word(*measured));
                    found.push(format!("{from} to {to}, {kind}: expected {expected}, measured {measured}"));
                }
            }
        }
        found
    }
}

impl Target<'_> {
    /// One flow of each kind.
    fn flows(&self, from: &palisade_lab::Namespace) -> Vec<Flow> {
        let flow = |(protocol, family, _): (Protocol, usize, &str)| {
            self.addresses.get(family).map(|&address| Flow::new(from, protocol, address, self.port))
        };
        KINDS.into_iter().filter_map(flow).collect()
    }
}

fn targets(stage: &Stage) -> Result<Vec<Target<'_>>, Failure> {
    let short = |pod: &Pod| pod.name().rsplit('/').next().unwrap_or_default().to_owned();
    let mut targets: Vec<_> = stage
        .pods()
        .iter()
        .map(|pod| Target { name: short(pod), pod, addresses: pod.addresses(), port: PORT })
        .collect();
    let backend = stage.pod("shop/backend")?;
    let addresses = stage.service().to_vec();
    targets.push(Target { name: "Service".to_owned(), pod: backend, addresses, port: SERVICE_PORT });
    Ok(targets)
}

fn pod_endpoint(pod: &Pod) -> Endpoint {
    let (namespace, name) = pod.name().split_once('/').unwrap_or(("default", pod.name()));
    Endpoint::Pod(NamespacedName::new(namespace, name))
}

/// The verdict of the reference evaluator. The question is about the backend, not about the Service's IP.
fn expect(
    reference: &Reference<'_>,
    from: Endpoint,
    to: &Pod,
    protocol: Protocol,
    family: usize,
) -> Result<bool, Failure> {
    let protocol = if protocol == Protocol::Tcp { input::Protocol::Tcp } else { input::Protocol::Udp };
    let family = Some(if family == 0 { input::Family::V4 } else { input::Family::V6 });
    let flow = flow::Flow { from, to: pod_endpoint(to), transport: Transport::Port(protocol, PORT), family };
    let judgement = reference.evaluate(&flow).map_err(|error| Failure::caused("cannot judge a flow", &error))?;
    Ok(judgement.verdict == Verdict::Allow)
}
