//! A flow, as given on the command line and in files.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_policy::flow::{Endpoint, Flow, Transport};
use palisade_policy::input::{Family, NamespacedName, Pod, Protocol, State};
use palisade_policy::nearest;
use serde::Deserialize;
use serde_json::Value;

/// An example of a line of a file of flows, for errors.
pub(crate) const EXAMPLE: &str = r#"write {"from":"namespace/pod","to":"namespace/pod","port":80}"#;

/// A line of a file of flows, or the equivalent arguments. An unknown field is an error: it may have been meant to
/// change the answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// `namespace/pod`, an IP, or `node/NAME`.
    pub(crate) from: String,
    /// `namespace/pod` or an IP; its port may follow after a colon.
    pub(crate) to: String,
    /// TCP by default.
    pub(crate) protocol: Option<String>,
    /// A number, or a name that the server declares. Required except for ICMP, which ignores it.
    pub(crate) port: Option<Value>,
    /// `IPv4` or `IPv6`.
    pub(crate) family: Option<Value>,
}

impl Request {
    /// The flow in the arguments of a verb.
    pub(crate) fn of(from: &str, to: &str, protocol: &str, port: Option<&str>, family: Option<&str>) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            protocol: Some(protocol.to_owned()),
            port: port.map(self::port),
            family: family.map(Into::into),
        }
    }

    /// Reads a line of a file of flows.
    pub(crate) fn read(line: &[u8]) -> Result<Self, String> {
        match line.trim_ascii_start().first() {
            Some(b'{') => {}
            None => return Err("the line is empty".to_owned()),
            // Serde would accept an array as the fields in order.
            Some(_) => return Err("not a JSON object".to_owned()),
        }
        serde_json::from_slice(line).map_err(|error| {
            // There is only one line.
            error.to_string().replace(" at line 1 column", " at column")
        })
    }

    /// The flow that it describes. A pod without a namespace is in `namespace`, if given. A port name is one that the
    /// server declares in `state`.
    pub(crate) fn flow(&self, namespace: Option<&str>, state: &State) -> Result<Flow, String> {
        self.with_ports(namespace, |server, protocol, name| named_port(state, server, protocol, name))
    }

    /// Finds the mistakes that do not depend on the objects.
    pub(crate) fn check(&self, namespace: Option<&str>) -> Result<(), String> {
        self.with_ports(namespace, |_, _, _| Ok(1)).map(drop)
    }

    fn with_ports(
        &self,
        namespace: Option<&str>,
        named: impl Fn(&Endpoint, Protocol, &str) -> Result<u16, String>,
    ) -> Result<Flow, String> {
        let (server, own) = split_port(&self.to);
        let to = endpoint(server, namespace).map_err(|_of_a_part| wrong_end(&self.to))?;
        let own = own.map(port);
        let port = match (&self.port, &own) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!("{:?} and port {one} are two ports: write one of them", self.to));
            }
            (one, other) => one.as_ref().or(other.as_ref()),
        };
        Ok(Flow {
            from: self.client(namespace)?,
            transport: self.transport(port, |protocol, name| named(&to, protocol, name))?,
            to,
            family: self.family()?,
        })
    }

    /// The client, which is a single pod, IP or node.
    pub(crate) fn client(&self, namespace: Option<&str>) -> Result<Endpoint, String> {
        endpoint(&self.from, namespace)
    }

    /// The family that it asks for.
    pub(crate) fn family(&self) -> Result<Option<Family>, String> {
        self.family.as_ref().map(family).transpose()
    }

    /// The protocol; none for those without ports.
    pub(crate) fn protocol(&self) -> Result<Option<Protocol>, String> {
        protocol_of(self.protocol.as_deref().unwrap_or("TCP"))
    }

    fn transport(
        &self,
        port: Option<&Value>,
        named: impl Fn(Protocol, &str) -> Result<u16, String>,
    ) -> Result<Transport, String> {
        let Some(protocol) = self.protocol()? else { return Ok(Transport::Portless) };
        let port = port.ok_or_else(|| format!("port is missing; {protocol} needs one"))?;
        let number = match port.as_str() {
            Some(name) if is_port_name(name) => named(protocol, name)?,
            _ => port_number(port)?,
        };
        Ok(Transport::Port(protocol, number))
    }
}

/// A port as it is written on the command line: a number, or text.
pub(crate) fn port(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

/// The server and the port after it, such as `shop/db:80`, `10.0.0.1:80` or `[fd00::1]:80`.
pub(crate) fn split_port(text: &str) -> (&str, Option<&str>) {
    if text.parse::<IpAddr>().is_ok() {
        return (text, None);
    }
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        return (address, Some(port));
    }
    text.rsplit_once(':').map_or((text, None), |(server, port)| (server, Some(port)))
}

/// Whether this is a port name, not a number.
fn is_port_name(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// The port that the server, a pod, declares with this name.
fn named_port(state: &State, server: &Endpoint, protocol: Protocol, name: &str) -> Result<u16, String> {
    if let Some(unknown) = no_pod(state, server) {
        return Err(unknown);
    }
    let is_server = |pod: &&Pod| match server {
        Endpoint::Pod(key) => pod.key == *key,
        Endpoint::Address(address) => pod.is_live() && pod.addresses.contains(*address),
        Endpoint::Node(_) => false,
    };
    let servers = state.every_pod().filter(is_server);
    let numbers: BTreeSet<_> = servers.flat_map(|pod| pod.ports_named(protocol, name)).collect();
    match numbers.iter().copied().collect::<Vec<_>>().as_slice() {
        [number] => Ok(*number),
        [] => Err(format!("{server} declares no {protocol} port named {name:?}")),
        [first, second, ..] => {
            Err(format!("{server} declares {protocol} port {name:?} as {first} and {second}: write a number"))
        }
    }
}

/// `node/NAME` is a node, even if a namespace is called `node`; use the IPs of that namespace's pods.
fn endpoint(text: &str, namespace: Option<&str>) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        // On the wire, an IPv4-mapped address is the IPv4 address.
        return Ok(Endpoint::Address(address.to_canonical()));
    }
    if let Some(namespace) = namespace
        && is_name(text)
    {
        return Ok(Endpoint::Pod(NamespacedName::new(namespace, text)));
    }
    match text.split_once('/') {
        Some(("node", name)) if is_name(name) => Ok(Endpoint::Node(name.into())),
        Some((namespace, name)) if is_name(namespace) && !namespace.contains('.') && is_name(name) => {
            Ok(Endpoint::Pod(NamespacedName::new(namespace, name)))
        }
        _ => Err(wrong_end(text)),
    }
}

fn wrong_end(text: &str) -> String {
    format!("{text:?} is not namespace/pod, an IP address, node/NAME, svc/NAMESPACE/NAME or deploy/NAMESPACE/NAME")
}

/// Just enough to tell a name from a block, a URL or an address with a zone.
fn is_name(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !text.is_empty() && text.bytes().all(is_fit)
}

fn port_number(port: &Value) -> Result<u16, String> {
    let number = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    number.ok_or_else(|| format!("port {port} is not a number from 1 to 65535, nor a name"))
}

fn family(family: &Value) -> Result<Family, String> {
    let text = family.as_str().map_or_else(|| family.to_string(), str::to_ascii_lowercase);
    match text.trim_start_matches("ip").trim_start_matches('v') {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err(format!("family {family} is not IPv4 or IPv6")),
    }
}

/// The name of an object, as `namespace/name` or, with `-n`, as `name`.
pub(crate) fn key(text: &str, namespace: Option<&str>) -> NamespacedName {
    match text.split_once('/') {
        Some((namespace, name)) => NamespacedName::new(namespace, name),
        None => NamespacedName::new(namespace.unwrap_or("default"), text),
    }
}

/// The error for a name that no object has.
pub(crate) fn unknown(kind: &str, key: &NamespacedName, names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    let text = key.to_string();
    let meant = nearest(&text, names.iter().map(String::as_str)).map(ToOwned::to_owned).or_else(|| {
        // A pod is often named without what its controller adds.
        names.iter().find(|name| name.strip_prefix(&text).is_some_and(|rest| rest.starts_with('-'))).cloned()
    });
    let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    format!("{kind} {key} is not among the objects read{hint}")
}

/// The end of a pod that the objects lack, with what may have been meant.
pub(crate) fn no_pod(state: &State, endpoint: &Endpoint) -> Option<String> {
    let Endpoint::Pod(key) = endpoint else { return None };
    if state.pods.contains_key(key) {
        return None;
    }
    Some(unknown("pod", key, state.pods.keys().map(ToString::to_string)))
}

/// The protocol of a request; none for protocols without ports.
fn protocol_of(name: &str) -> Result<Option<Protocol>, String> {
    if name.eq_ignore_ascii_case("ICMP") {
        return Ok(None);
    }
    let protocol = Protocol::ALL.into_iter().find(|protocol| name.eq_ignore_ascii_case(protocol.name()));
    protocol.map(Some).ok_or_else(|| format!("protocol {name:?} is not one of TCP, UDP, SCTP and ICMP"))
}
