//! The ends of a flow as people name them: pods, IPs, nodes, and Services and workloads, which stand for several pods.

use palisade_analysis::ends::{backends, of_workload};
use palisade_policy::flow::{Flow, Transport};
use palisade_policy::input::{NamespacedName, Service, Services, State};

use crate::trace::request::{self, Request, no_pod, unknown};

/// The kinds of workloads, as kubectl abbreviates them.
const WORKLOADS: [&str; 16] = [
    "deploy",
    "deployment",
    "deployments",
    "sts",
    "statefulset",
    "ds",
    "daemonset",
    "rs",
    "replicaset",
    "job",
    "cronjob",
    "cj",
    "rc",
    "replicationcontroller",
    "statefulsets",
    "daemonsets",
];

/// The objects that ends are looked up in.
pub(crate) struct Names<'a> {
    pub(crate) state: &'a State,
    pub(crate) services: &'a Services,
    /// The namespace of names without one.
    pub(crate) namespace: Option<&'a str>,
    /// Whether a Service's IP stands for its endpoints: untracked packets are not translated.
    pub(crate) translates: bool,
}

/// The flows that a request stands for: one for each pod at each end.
pub(crate) struct Flows {
    pub(crate) flows: Vec<Flow>,
    /// What the ends stand for, if they are several pods: `service shop/api TCP 80: 2 backends`.
    pub(crate) meant: Vec<String>,
}

/// What an end is written as.
enum Named {
    Service(NamespacedName),
    Workload(NamespacedName),
    /// A pod, an IP or a node.
    Other,
}

impl Names<'_> {
    /// The flows of a request. The port is the server's; of a Service, the Service's.
    pub(crate) fn flows(&self, request: &Request) -> Result<Flows, String> {
        let mut meant = Vec::new();
        let clients = self.clients(&request.from, &mut meant)?;
        let (to, own_port) = request::split_port(&request.to);
        let service = match named(to, self.namespace)? {
            Named::Service(key) => Some(self.service(&key)?),
            Named::Workload(key) => {
                let servers = self.pods(&key, &mut meant)?;
                return Ok(Flows { flows: self.each(request, &clients, &servers, own_port)?, meant });
            }
            Named::Other if self.translates => to.parse().ok().and_then(|address| self.services.with_address(address)),
            Named::Other => None,
        };
        let Some(service) = service else {
            return Ok(Flows { flows: self.each(request, &clients, &[to.to_owned()], own_port)?, meant });
        };
        let flows = self.behind(request, &clients, service, own_port, &mut meant)?;
        Ok(Flows { flows, meant })
    }

    /// Finds the mistakes that do not depend on the objects.
    pub(crate) fn check(request: &Request, namespace: Option<&str>) -> Result<(), String> {
        let (to, own_port) = request::split_port(&request.to);
        let is_other = |text| named(text, namespace).map(|named| matches!(named, Named::Other));
        let stand_in = || "0.0.0.0".to_owned();
        let from = if is_other(&request.from)? { request.from.clone() } else { stand_in() };
        if is_other(to)? {
            return Request { from, ..request.clone() }.check(namespace);
        }
        // A Service with one port needs none here.
        let port = request.port.clone().or_else(|| Some(own_port.map_or_else(|| 1.into(), request::port)));
        Request { from, to: stand_in(), port, ..request.clone() }.check(namespace)
    }

    fn clients(&self, text: &str, meant: &mut Vec<String>) -> Result<Vec<String>, String> {
        match named(text, self.namespace)? {
            Named::Workload(key) => self.pods(&key, meant),
            Named::Service(key) => Err(format!("service {key} opens no flows: name a pod or a workload as the client")),
            Named::Other => Ok(vec![text.to_owned()]),
        }
    }

    /// A pod of each sort that a workload has, by name.
    fn pods(&self, key: &NamespacedName, meant: &mut Vec<String>) -> Result<Vec<String>, String> {
        let pods = of_workload(self.state, key);
        if pods.is_empty() {
            let names = self.state.every_pod().map(|pod| palisade_analysis::reach::name(pod).to_string());
            return Err(unknown("workload", key, names));
        }
        let names: Vec<_> = pods.iter().map(|pod| pod.key.to_string()).collect();
        meant.push(format!("workload {key}: judged by {}", names.join(", ")));
        Ok(names)
    }

    fn service(&self, key: &NamespacedName) -> Result<&Service, String> {
        let names = || self.services.services.keys().map(ToString::to_string);
        self.services.services.get(key).ok_or_else(|| unknown("service", key, names()))
    }

    /// The flow between two single ends, which the objects must have if they are pods.
    fn flow(&self, request: &Request) -> Result<Flow, String> {
        let flow = request.flow(self.namespace, self.state)?;
        let unknown = [&flow.from, &flow.to].into_iter().find_map(|end| no_pod(self.state, end));
        unknown.map_or(Ok(flow), Err)
    }

    fn each(
        &self,
        request: &Request,
        clients: &[String],
        servers: &[String],
        port: Option<&str>,
    ) -> Result<Vec<Flow>, String> {
        let mut flows = Vec::new();
        for (from, to) in clients.iter().flat_map(|from| servers.iter().map(move |to| (from, to))) {
            let to = port.map_or_else(|| to.clone(), |port| with_port(to, port));
            let one = Request { from: from.clone(), to, ..request.clone() };
            flows.push(self.flow(&one)?);
        }
        Ok(flows)
    }

    /// The flows to what is behind a Service.
    fn behind(
        &self,
        request: &Request,
        clients: &[String],
        service: &Service,
        own_port: Option<&str>,
        meant: &mut Vec<String>,
    ) -> Result<Vec<Flow>, String> {
        let protocol = request.protocol()?;
        let Some(protocol) = protocol else {
            return Err(format!("service {} has no ICMP: name one of its pods", service.key));
        };
        let asked = request.port.as_ref().map(|port| port.as_str().map_or_else(|| port.to_string(), ToOwned::to_owned));
        let port = match (asked, own_port) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!("{:?} and port {one} are two ports: write one of them", request.to));
            }
            (one, other) => one.or_else(|| other.map(ToOwned::to_owned)),
        };
        let found = backends(self.state, self.services, service, protocol, port.as_deref())
            .map_err(|error| error.to_string())?;
        let names = found.iter().map(|backend| format!("{} {protocol} {}", backend.endpoint, backend.port));
        meant.push(format!("service {}: leads to {}", service.key, names.collect::<Vec<_>>().join(", ")));
        let family = request.family()?;
        let mut flows = Vec::new();
        for from in clients {
            let from = Request { from: from.clone(), ..request.clone() }.client(self.namespace)?;
            if let Some(unknown) = no_pod(self.state, &from) {
                return Err(unknown);
            }
            flows.extend(found.iter().map(|backend| Flow {
                from: from.clone(),
                to: backend.endpoint.clone(),
                transport: Transport::Port(protocol, backend.port),
                family,
            }));
        }
        Ok(flows)
    }
}

/// What an end is written as: `svc/shop/api`, `deploy/shop/web`; the namespace may be left out with `-n`.
fn named(text: &str, namespace: Option<&str>) -> Result<Named, String> {
    let Some((kind, rest)) = text.split_once('/') else { return Ok(Named::Other) };
    let is_service = matches!(kind, "svc" | "service" | "services");
    // A namespace may have one of these names: `deploy/web` is then a pod, if no -n is given.
    let is_kind = is_service || WORKLOADS.contains(&kind);
    let key = match (rest.split_once('/'), namespace) {
        _ if !is_kind => return Ok(Named::Other),
        (Some((namespace, name)), _) => NamespacedName::new(namespace, name),
        (None, Some(namespace)) => NamespacedName::new(namespace, rest),
        (None, None) => return Err(format!("{text:?} has no namespace: write {kind}/NAMESPACE/{rest}, or give -n")),
    };
    Ok(if is_service { Named::Service(key) } else { Named::Workload(key) })
}

fn with_port(server: &str, port: &str) -> String {
    match server.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{server}]:{port}"),
        Err(_) => format!("{server}:{port}"),
    }
}
