//! The objects of one case in one stack, and the effect of each step on them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_testkit::apiserver::{namespace_path, network_policy_path, pod_path};
use serde_json::{Value, json};

use crate::conformance::table::{NAMESPACES, PODS, Step};

/// The families that pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stack {
    Four,
    Six,
    Dual,
}

impl Stack {
    pub(crate) const ALL: [Self; 3] = [Self::Four, Self::Six, Self::Dual];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Four => "v4",
            Self::Six => "v6",
            Self::Dual => "dual",
        }
    }

    pub(crate) fn has(self, address: &IpAddr) -> bool {
        match self {
            Self::Four => address.is_ipv4(),
            Self::Six => address.is_ipv6(),
            Self::Dual => true,
        }
    }
}

/// The node of a pod: neighbours in [`PODS`] are on different ones.
pub(crate) fn node_of(pod: &str) -> usize {
    1 + PODS.iter().position(|other| *other == pod).unwrap() % 2
}

/// Hosts outside the cluster without IPv4: outside the ranges that some take for all of IPv6.
pub(crate) const SIX_ONLY: [(&str, &str); 2] = [("nat64", "64:ff9b::7"), ("ula", "fc00::7")];

/// The IPs of pods and others. Only the families of a stack count.
pub(crate) type Plan = BTreeMap<String, Vec<IpAddr>>;

/// A write to the API server for a step.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Create(Value),
    /// A merge patch of the object at a path.
    Patch(String, Value),
    /// A manifest for a path.
    Apply(String, String),
    Delete(String),
    /// The pod at a path becomes terminating; its kubelet has not confirmed the end.
    Terminate(String),
    /// A policy is written into the server's storage.
    Store(Value),
}

/// The objects.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) stack: Stack,
    /// The suffix of namespace names.
    suffix: String,
    plan: Plan,
    namespaces: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    /// Manifests of policies by path.
    policies: BTreeMap<String, String>,
}

impl Cluster {
    /// Namespaces and pods, all alike except those that the case's first steps change.
    pub(crate) fn new(stack: Stack, suffix: &str, plan: &Plan, steps: &[Step]) -> Self {
        let plan = plan.iter().map(|(name, addresses)| {
            (name.clone(), addresses.iter().copied().filter(|address| stack.has(address)).collect())
        });
        let plan: Plan = plan.collect();
        let suffix = format!("{suffix}-{}", stack.name());
        let mut cluster =
            Self { stack, suffix, plan, namespaces: BTreeMap::new(), pods: BTreeMap::new(), policies: BTreeMap::new() };
        for name in NAMESPACES {
            let labels = json!({ "ns": cluster.namespace(name) });
            let metadata = json!({ "name": cluster.namespace(name), "labels": labels });
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
            cluster.namespaces.insert(name.to_owned(), object);
        }
        for name in PODS {
            let mut pod = cluster.pod(name);
            for step in steps {
                match step {
                    Step::Pod(of, patch) if of == name => merge(&mut pod, &cluster.expand_json(patch)),
                    Step::Pod(..) => {}
                    _ => break,
                }
            }
            cluster.pods.insert(name.to_owned(), pod);
        }
        cluster
    }

    /// The name in the API server of a namespace of the case.
    pub(crate) fn namespace(&self, name: &str) -> String {
        format!("{name}-{}", self.suffix)
    }

    /// The addresses of a pod or host in the families of the stack.
    pub(crate) fn addresses(&self, name: &str) -> &[IpAddr] {
        &self.plan[name]
    }

    fn pod(&self, name: &str) -> Value {
        let (namespace, pod) = name.split_once('/').unwrap();
        let port = |protocol: &str, port: u16| {
            let name = format!("serve-{port}-{}", protocol.to_lowercase());
            json!({ "name": name, "containerPort": port, "protocol": protocol })
        };
        let ports = ["TCP", "UDP", "SCTP"].map(|protocol| [80, 81].map(|number| port(protocol, number))).concat();
        let (node, addresses) = (format!("node-{}", node_of(name)), self.addresses(name));
        let ips = |addresses: &[IpAddr]| addresses.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>();
        let host = &self.plan[&node];
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "namespace": self.namespace(namespace), "name": pod, "labels": { "pod": pod } },
            "spec": { "nodeName": node, "containers": [{ "name": "serve", "image": "none", "ports": ports }] },
            "status": {
                "phase": "Running",
                "podIP": addresses.first(), "podIPs": ips(addresses),
                "hostIP": host.first(), "hostIPs": ips(host),
            },
        })
    }

    /// The writes that create everything.
    pub(crate) fn create(&self) -> Vec<Write> {
        let mut writes: Vec<_> = self.namespaces.values().cloned().map(Write::Create).collect();
        for pod in self.pods.values() {
            writes.push(Write::Create(pod.clone()));
            writes.push(Write::Patch(path(pod) + "/status", json!({ "status": pod["status"] })));
        }
        writes
    }

    /// The names of the namespaces, which are deleted at the end with everything in them.
    pub(crate) fn namespace_names(&self) -> Vec<String> {
        NAMESPACES.map(|name| self.namespace(name)).to_vec()
    }

    /// Applies a step, and returns the writes for the API server.
    pub(crate) fn apply(&mut self, step: &Step) -> Vec<Write> {
        match step {
            Step::Apply(manifests) => {
                let manifests = self.expand(manifests);
                manifests.split("---\n").map(|manifest| self.apply_manifest(manifest)).collect()
            }
            Step::Delete(policy) => {
                let (namespace, name) = policy.split_once('/').unwrap();
                let path = network_policy_path(&self.namespace(namespace), name);
                assert!(self.policies.remove(&path).is_some(), "there is no policy {policy}");
                vec![Write::Delete(path)]
            }
            Step::Label(name, labels) => {
                let patch = json!({ "metadata": { "labels": self.expand_json(labels) } });
                let object = self.pods.get_mut(name).or(self.namespaces.get_mut(name)).unwrap();
                merge(object, &patch);
                vec![Write::Patch(path(object), patch)]
            }
            Step::Pod(name, patch) => {
                let patch = self.expand_json(patch);
                let pod = self.pods.get_mut(name).unwrap();
                merge(pod, &patch);
                // Everything except the status was written when the pod was created.
                let status = patch.get("status").map(|status| json!({ "status": status }));
                status.map(|status| Write::Patch(path(pod) + "/status", status)).into_iter().collect()
            }
            Step::Store(policy, spec) => {
                let (namespace, name) = policy.split_once('/').unwrap();
                vec![Write::Store(json!({
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": { "namespace": self.namespace(namespace), "name": name, "uid": name },
                    "spec": self.expand_json(spec),
                }))]
            }
            Step::Terminate(name) => {
                let pod = self.pods.get_mut(name).unwrap();
                merge(pod, &json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
                vec![Write::Terminate(path(pod))]
            }
            Step::Close(name) => {
                let namespace = self.namespaces.get_mut(name).unwrap();
                merge(namespace, &json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
                vec![Write::Delete(path(namespace))]
            }
            Step::Restart | Step::Expect(_) => Vec::new(),
        }
    }

    fn apply_manifest(&mut self, manifest: &str) -> Write {
        let metadata = manifest.lines().find_map(|line| line.strip_prefix("metadata: {name: ")?.strip_suffix('}'));
        let metadata = metadata.unwrap_or_else(|| panic!("no `metadata: {{name: …, namespace: …}}`:\n{manifest}"));
        let (name, namespace) = metadata.split_once(", namespace: ").expect("name, then namespace");
        let path = network_policy_path(namespace, name);
        self.policies.insert(path.clone(), manifest.to_owned());
        Write::Apply(path, manifest.to_owned())
    }

    /// All objects as manifests.
    pub(crate) fn manifests(&self) -> String {
        let objects = self.namespaces.values().chain(self.pods.values()).map(|object| format!("---\n{object}\n"));
        objects.chain(self.policies.values().map(|manifest| format!("---\n{manifest}"))).collect()
    }

    /// Like [`Self::expand`]; in a status, `"$addresses": "x/a"` is replaced by the IPs of x/a.
    fn expand_json(&self, value: &Value) -> Value {
        let mut text = value.to_string();
        for (name, addresses) in &self.plan {
            let ips: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
            let status = json!({ "podIP": addresses.first(), "podIPs": ips }).to_string();
            text = text.replace(
                &format!("\"$addresses\":\"{name}\""),
                status.strip_prefix('{').unwrap().strip_suffix('}').unwrap(),
            );
        }
        serde_json::from_str(&self.expand(&text)).unwrap()
    }

    /// Replaces the placeholders of a case: `$x` is the namespace x, `$ip(x/a)` an IP of pod x/a, `$host(x/a)` that IP
    /// as a CIDR, `$wide(x/a)` the /4 around it. A line with an IP is repeated for each family.
    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        for line in text.split_inclusive('\n') {
            if !["$ip(", "$host(", "$wide("].iter().any(|variable| line.contains(variable)) {
                out.push_str(&self.expand_line(line, 0));
                continue;
            }
            for number in 0..self.plan["x/a"].len() {
                out.push_str(&self.expand_line(line, number));
            }
        }
        out
    }

    fn expand_line(&self, line: &str, number: usize) -> String {
        let mut line = line.to_owned();
        for (name, addresses) in &self.plan {
            let Some(address) = addresses.get(number) else { continue };
            let (length, wide) = match address {
                IpAddr::V4(v4) => (32, format!("{}.0.0.0/4", v4.octets()[0] & 0xf0)),
                IpAddr::V6(v6) => (128, format!("{:x}000::/4", v6.octets()[0] >> 4)),
            };
            for (variable, value) in
                [("ip", address.to_string()), ("host", format!("{address}/{length}")), ("wide", wide)]
            {
                line = line.replace(&format!("${variable}({name})"), &value);
            }
        }
        for name in NAMESPACES {
            line = line.replace(&format!("${name}"), &self.namespace(name));
        }
        line
    }
}

/// The path of an object.
fn path(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => pod_path(namespace, name),
        None => namespace_path(name),
    }
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
