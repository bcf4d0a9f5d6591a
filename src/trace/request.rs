//! A flow, as given on the command line and in files.

use std::net::IpAddr;

use palisade_policy::flow::{Endpoint, Flow, Transport};
use palisade_policy::input::{Family, NamespacedName, Protocol};
use serde::Deserialize;
use serde_json::Value;

const EXAMPLE: &str = r#"write {"from":"namespace/pod","to":"namespace/pod","port":80}"#;

/// A line of a file of flows, or the equivalent arguments. An unknown field is an error: it may have been meant to
/// change the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// `namespace/pod`, an address, or `node/NAME`.
    pub(super) from: String,
    /// `namespace/pod` or an address.
    pub(super) to: String,
    /// TCP by default.
    pub(super) protocol: Option<String>,
    /// Required except for ICMP, which ignores it.
    pub(super) port: Option<Value>,
    /// `IPv4` or `IPv6`.
    pub(super) family: Option<Value>,
}

impl Request {
    /// Reads a line of a file of flows.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        match line.trim_ascii_start().first() {
            Some(b'{') => {}
            None => return Err(format!("the line is empty; {EXAMPLE}")),
            // Serde would accept an array as the fields in order.
            Some(_) => return Err(format!("not a JSON object; {EXAMPLE}")),
        }
        serde_json::from_slice(line).map_err(|error| {
            // There is only one line.
            error.to_string().replace(" at line 1 column", " at column")
        })
    }

    /// The flow that it describes. A pod without a namespace is in this one, if there is one.
    pub(super) fn flow(&self, namespace: Option<&str>) -> Result<Flow, String> {
        Ok(Flow {
            from: endpoint(&self.from, namespace)?,
            to: endpoint(&self.to, namespace)?,
            transport: self.transport()?,
            family: self.family.as_ref().map(family).transpose()?,
        })
    }

    fn transport(&self) -> Result<Transport, String> {
        let name = self.protocol.as_deref().unwrap_or("TCP");
        if name.eq_ignore_ascii_case("ICMP") {
            return Ok(Transport::Portless);
        }
        let protocol = Protocol::ALL.into_iter().find(|protocol| name.eq_ignore_ascii_case(protocol.name()));
        let protocol = protocol.ok_or_else(|| format!("protocol {name:?} is not one of TCP, UDP, SCTP and ICMP"))?;
        let port = self.port.as_ref().ok_or_else(|| format!("port is missing; {protocol} needs one"))?;
        Ok(Transport::Port(protocol, port_number(port)?))
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
        _ => Err(format!("{text:?} is not namespace/pod, an IP address or node/NAME")),
    }
}

/// Just enough to tell a name from a block, a URL or an address with a zone.
fn is_name(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !text.is_empty() && text.bytes().all(is_fit)
}

fn port_number(port: &Value) -> Result<u16, String> {
    let number = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    number.ok_or_else(|| format!("port {port} is not a number from 1 to 65535"))
}

fn family(family: &Value) -> Result<Family, String> {
    let text = family.as_str().map_or_else(|| family.to_string(), str::to_ascii_lowercase);
    match text.trim_start_matches("ip").trim_start_matches('v') {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err(format!("family {family} is not IPv4 or IPv6")),
    }
}
