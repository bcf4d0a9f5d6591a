//! The manifests that the agents watch.

use std::fmt::Write as _;

use palisade_lab::{Node, Pod};

/// The port of every pod, TCP and UDP.
pub(super) const PORT: u16 = 8080;
/// The port of the Service.
pub(super) const SERVICE_PORT: u16 = 80;

/// A file of policies.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The name of the file.
    pub(super) file: &'static str,
    /// The policies.
    pub(super) policies: &'static [Policy],
}

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    /// The fields of `spec`, one a line.
    pub(super) spec: &'static [&'static str],
}

pub(super) const DEFAULT_DENY: Manifest = Manifest {
    file: "10-default-deny.yaml",
    policies: &[
        Policy { namespace: "shop", name: "default-deny", spec: &["podSelector: {}", "policyTypes: [Ingress]"] },
        Policy { namespace: "ops", name: "default-deny", spec: &["podSelector: {}", "policyTypes: [Ingress]"] },
    ],
};

pub(super) const FRONTEND: Manifest = Manifest {
    file: "20-allow-frontend.yaml",
    policies: &[Policy {
        namespace: "shop",
        name: "allow-frontend",
        spec: &[
            "podSelector: {matchLabels: {app: backend}}",
            "ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}]}]",
        ],
    }],
};

pub(super) const MORE: Manifest = Manifest {
    file: "30-more.yaml",
    policies: &[
        Policy {
            namespace: "shop",
            name: "db-from-backend",
            spec: &[
                "podSelector: {matchLabels: {app: db}}",
                "ingress: [{from: [{podSelector: {matchLabels: {app: backend}}}], ports: [{port: 8080}]}]",
            ],
        },
        Policy {
            namespace: "shop",
            name: "from-ops",
            spec: &["podSelector: {}", "ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]"],
        },
        Policy {
            namespace: "ops",
            name: "monitor-not-db",
            spec: &[
                "podSelector: {matchLabels: {app: monitor}}",
                "policyTypes: [Egress]",
                "egress: [{to: [{namespaceSelector: {matchLabels: {team: shop}},",
                "          podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}}]}]",
            ],
        },
    ],
};

impl Manifest {
    /// The file's text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Policy { namespace, name, spec } in self.policies {
            write!(
                text,
                "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n"
            )
            .unwrap_or(());
            for line in *spec {
                writeln!(text, "  {line}").unwrap_or(());
            }
        }
        text
    }
}

/// The manifest of the namespaces and pods, with the IPs that the lab gave them.
pub(super) fn objects(namespaces: &[&str], pods: &[(&Node, &Pod)]) -> String {
    let mut text = String::new();
    for name in namespaces {
        writeln!(text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{team: {name}}}}}")
            .unwrap_or(());
    }
    for (node, pod) in pods {
        let (namespace, name) = pod.name().split_once('/').unwrap_or(("default", pod.name()));
        let ips: Vec<String> = pod.addresses().iter().map(|address| format!("{{ip: \"{address}\"}}")).collect();
        let (first, ips) = (pod.addresses().first().map(ToString::to_string).unwrap_or_default(), ips.join(", "));
        let (node, host4, host6) = (node.name(), node.ipv4(), node.ipv6());
        write!(
            text,
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: {name}, image: {name}}}]}}\n\
             status:\n  phase: Running\n  podIP: \"{first}\"\n  podIPs: [{ips}]\n  hostIP: \"{host4}\"\n  \
             hostIPs: [{{ip: \"{host4}\"}}, {{ip: \"{host6}\"}}]\n"
        )
        .unwrap_or(());
    }
    text
}
