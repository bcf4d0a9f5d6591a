//! Objects as an API server sends them.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A namespace.
pub fn namespace(name: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
    }
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
    })
}

/// A pod of a node: running, or, without addresses, not started yet.
pub fn pod(namespace: &str, name: &str, node: &str, addresses: &[IpAddr], labels: &Value) -> Value {
    let ips: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let status = match addresses.first() {
        Some(first) => json!({ "phase": "Running", "hostIP": "192.0.2.1", "podIP": first, "podIPs": ips }),
        None => json!({ "phase": "Pending" }),
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "registry.invalid/main" }] },
        "status": status,
    })
}

/// A policy with this spec.
pub fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": spec,
    })
}

/// A policy that isolates every pod of a namespace for ingress and allows nothing.
pub fn deny(namespace: &str, name: &str) -> Value {
    policy(namespace, name, &json!({ "podSelector": {}, "policyTypes": ["Ingress"] }))
}

/// A policy with these ingress rules for all pods of a namespace.
pub fn policy_with(namespace: &str, name: &str, ingress: &Value) -> Value {
    policy(namespace, name, &json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress }))
}

/// A node with its pod ranges.
pub fn node(name: &str, ranges: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "spec": { "podCIDR": ranges.first(), "podCIDRs": ranges },
    })
}

/// The same object while it is being deleted.
#[must_use]
pub fn ending(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("deletionTimestamp".to_owned(), json!("2026-01-01T00:00:01Z"));
        metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(30));
    }
    let is_namespace = object.get("kind").is_some_and(|kind| kind == "Namespace");
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && is_namespace
    {
        status.insert("phase".to_owned(), json!("Terminating"));
    }
    object
}
