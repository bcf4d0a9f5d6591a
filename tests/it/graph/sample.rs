//! A cluster of 300 workloads in 21 namespaces: pods with IPs on nodes, and the policies that such clusters have.

use std::fmt::Write as _;

const TEAMS: usize = 18;
/// The workloads of a team; the first three have rules of their own.
const APPS: [&str; 15] = [
    "web", "api", "db", "cache", "worker", "search", "auth", "mail", "queue", "report", "export", "import", "audit",
    "batch", "proxy",
];
/// Namespaces that are nobody's, with one workload for each name.
const SHARED: [(&str, &[&str]); 3] = [
    ("ingress", &["controller", "certificates", "defaults", "canary", "metrics"]),
    ("kube-system", &["coredns", "metrics-server", "snapshots", "autoscaler", "storage", "registry", "logs", "mesh"]),
    (
        "monitoring",
        &[
            "prometheus",
            "grafana",
            "alerts",
            "loki",
            "tempo",
            "probes",
            "rules",
            "push",
            "exporter",
            "thanos",
            "mimir",
            "oncall",
            "blackbox",
            "statsd",
            "synthetics",
            "archive",
            "compactor",
        ],
    ),
];
pub(crate) const WORKLOADS: usize = 300;

/// The manifests.
pub(crate) fn manifests() -> String {
    let mut text = String::new();
    let mut pods = 0;
    for team in 0..TEAMS {
        let namespace = format!("team-{team:02}");
        open(&mut text, &namespace);
        APPS.iter().for_each(|app| workload(&mut text, &namespace, app, &mut pods));
        // The last three teams have no policies yet.
        if team < TEAMS - 3 {
            policies(&mut text, team, &namespace);
        }
    }
    for (namespace, apps) in SHARED {
        open(&mut text, namespace);
        apps.iter().for_each(|app| workload(&mut text, namespace, app, &mut pods));
    }
    text
}

fn open(text: &mut String, namespace: &str) {
    writeln!(text, "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}").unwrap();
}

/// Two pods on two of ten nodes.
fn workload(text: &mut String, namespace: &str, app: &str, pods: &mut usize) {
    for copy in 0..2 {
        let (node, host) = (*pods % 10, *pods / 10);
        writeln!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {app}-5d8f-{copy}\n  namespace: {namespace}\n  \
             labels: {{app: {app}, pod-template-hash: 5d8f}}\nspec:\n  nodeName: node-{node}\n  \
             containers: [{{name: main, ports: [{{name: http, containerPort: 8080}}]}}]\nstatus:\n  phase: Running\n  \
             podIPs: [{{ip: 10.42.{node}.{host}}}, {{ip: 'fd42:{node}::{host:x}'}}]\n  \
             hostIPs: [{{ip: 172.30.0.{}}}, {{ip: 'fd00:30::{}'}}]",
            10 + node,
            10 + node,
            host = host + 2,
        )
        .unwrap();
        *pods += 1;
    }
}

fn policies(text: &mut String, team: usize, namespace: &str) {
    let neighbour = format!("team-{:02}", (team + 1) % TEAMS);
    let mut policy = |name: &str, spec: &str| {
        writeln!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}"
        )
        .unwrap();
    };
    policy("default-deny", "podSelector: {}, policyTypes: [Ingress, Egress]");
    policy(
        "dns",
        &format!(
            "podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{}], ports: [{{port: 53, protocol: UDP}}, {{port: 53}}]}}]",
            of("kube-system", "coredns")
        ),
    );
    policy(
        "scrape",
        &format!(
            "podSelector: {{}}, ingress: [{{from: [{}], ports: [{{port: 9100}}]}}]",
            of("monitoring", "prometheus")
        ),
    );
    policy(
        "inside",
        "podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}, policyTypes: [Egress, Ingress], egress: [{to: [{podSelector: {}}]}], ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]",
    );
    policy(
        "db",
        "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}, {podSelector: {matchLabels: {app: worker}}}], ports: [{port: 5432}]}]",
    );
    policy(
        "web",
        &format!(
            "podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{}, {{ipBlock: {{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}}}], ports: [{{port: http}}]}}]",
            of("ingress", "controller")
        ),
    );
    policy(
        "api",
        &format!(
            "podSelector: {{matchLabels: {{app: api}}}}, ingress: [{{from: [{}], ports: [{{port: 9000, endPort: 9010}}]}}]",
            of(&neighbour, "api")
        ),
    );
    policy(
        "neighbour",
        &format!(
            "podSelector: {{matchLabels: {{app: api}}}}, policyTypes: [Egress], egress: [{{to: [{}]}}]",
            of(&format!("team-{:02}", (team + TEAMS - 1) % TEAMS), "api")
        ),
    );
    policy(
        "export",
        "podSelector: {matchExpressions: [{key: app, operator: In, values: [export, mail]}]}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12]}}, {ipBlock: {cidr: '2001:db8::/32'}}], ports: [{port: 443}]}]",
    );
}

/// The pods of an app of a namespace, as a peer.
fn of(namespace: &str, app: &str) -> String {
    format!(
        "{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}, podSelector: {{matchLabels: {{app: {app}}}}}}}"
    )
}
