//! Services and EndpointSlices. A mistake in one is no mistake in a policy: what cannot be read is left out.

use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::{
    EndpointSlice, LabelSelector, NamespacedName, Protocol, Service, ServicePort, TargetPort,
};
use serde_json::Value;

/// The label of an EndpointSlice with the name of its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Reads a Service; without a namespace, it is in `namespace`.
pub(crate) fn service(object: &Value, namespace: &str) -> Option<Service> {
    let key = key(object, namespace)?;
    let spec = object.get("spec")?;
    let pairs = spec.get("selector").and_then(Value::as_object).filter(|pairs| !pairs.is_empty());
    let selector = pairs.map(|pairs| {
        LabelSelector::labels(pairs.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))))
    });
    let listed = ["clusterIPs", "externalIPs"].into_iter().flat_map(|field| items(spec.get(field)));
    let balanced = items(object.pointer("/status/loadBalancer/ingress")).filter_map(|ingress| ingress.get("ip"));
    let addresses = listed.chain(spec.get("clusterIP")).chain(balanced).filter_map(address);
    let mut addresses: Vec<_> = addresses.collect();
    addresses.dedup();
    let ports = items(spec.get("ports")).filter_map(port).collect();
    Some(Service { key, selector, addresses, ports })
}

fn port(port: &Value) -> Option<ServicePort> {
    let number = as_port(port.get("port")?)?;
    let target = match port.get("targetPort") {
        Some(Value::String(name)) => TargetPort::Named(name.as_str().into()),
        Some(other) => TargetPort::Number(as_port(other)?),
        None => TargetPort::Number(number),
    };
    Some(ServicePort { name: name(port), protocol: protocol(port)?, port: number, target })
}

/// Reads an EndpointSlice; without a namespace, it is in `namespace`.
pub(crate) fn endpoint_slice(object: &Value, namespace: &str) -> Option<EndpointSlice> {
    let key = key(object, namespace)?;
    let service = object.pointer("/metadata/labels")?.get(SERVICE_NAME)?.as_str()?;
    let endpoints = items(object.get("endpoints")).flat_map(|endpoint| items(endpoint.get("addresses")));
    let ports = items(object.get("ports"));
    let ports = ports.filter_map(|port| Some((name(port), protocol(port)?, as_port(port.get("port")?)?)));
    Some(EndpointSlice {
        service: NamespacedName { namespace: key.namespace.clone(), name: service.into() },
        key,
        addresses: endpoints.filter_map(address).collect(),
        ports: ports.collect(),
    })
}

fn key(object: &Value, namespace: &str) -> Option<NamespacedName> {
    let metadata = object.get("metadata")?;
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    Some(NamespacedName::new(text("namespace").unwrap_or(namespace), text("name")?))
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// `None` and other words are no addresses.
fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn name(port: &Value) -> Option<Arc<str>> {
    port.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(Into::into)
}

fn protocol(port: &Value) -> Option<Protocol> {
    let Some(written) = port.get("protocol").filter(|written| !written.is_null()) else { return Some(Protocol::Tcp) };
    Protocol::ALL.into_iter().find(|protocol| written.as_str() == Some(&*protocol.to_string()))
}

fn as_port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}
