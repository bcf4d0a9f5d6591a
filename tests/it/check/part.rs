//! An application's manifests are not a cluster: `check` draws no conclusions about what is missing.
//!
//! Seen to fail when: `is_whole` was always true; pods of custom resources were ignored; a namespace without workloads
//! counted as one whose pods are all known.

use super::{found, run, stderr, stdout};

const APPLICATION: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{containerPort: 8080, name: http}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]
    ports: [{port: http}]
  - from: [{namespaceSelector: {matchLabels: {purpose: monitoring}}, podSelector: {matchLabels: {app: prometheus}}}]
    ports: [{port: 8080}]
  egress:
";
const DNS: [&str; 3] = [
    "  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: \
     {k8s-app: coredns}}}]\n    ports: [{port: 53, protocol: UDP}, {port: 53}]\n",
    // The labels of kube-system, and of its pods, are unknown.
    "  - to: [{namespaceSelector: {matchLabels: {name: kube-system}}}]\n",
    "  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: openshift-dns}}}]\n",
];

const CUSTOM: &str = "
---
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
metadata: {name: db, namespace: shop}
spec: {instances: 3}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {cnpg.io/cluster: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {cnpg.io/cluster: db}}}]
    ports: [{port: postgres}]
";

#[test]
fn missing_facts_of_an_application_give_no_findings() {
    for dns in DNS {
        let text = [APPLICATION, dns, CUSTOM].concat();
        let output = run(&["check", "-f", "-"], &text);
        assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(0), "", ""), "{dns}");
        let codes = |output: &_| found(output).into_iter().map(|found| found.code).collect::<Vec<_>>();
        let whole = codes(&run(&["check", "-f", "-", "-o", "json", "--whole-cluster"], &text));
        for code in ["peer-selects-no-namespaces", "selects-no-pods", "peer-selects-no-pods"] {
            assert!(whole.iter().any(|found| found == code), "{code}: {whole:?}");
        }
    }
}

/// Known facts still give findings: about the pods of a namespace with workloads and without custom resources.
#[test]
fn known_facts_of_an_application_give_findings() {
    let text = [APPLICATION, DNS[0]].concat();
    for (right, wrong, code) in [
        ("podSelector: {matchLabels: {app: web}}", "podSelector: {matchLabels: {app: wbe}}", "selects-no-pods"),
        ("ports: [{port: http}]", "ports: [{port: htpp}]", "named-port-undefined"),
        ("ports: [{port: 8080}]", "ports: [{port: 80}]", "port-not-served"),
        (
            "from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]",
            "from: [{podSelector: {matchLabels: {app: client}}}]",
            "peer-selects-no-pods",
        ),
        (DNS[0], "  - to: [{podSelector: {}}]\n", "no-dns"),
    ] {
        let text = text.replacen(right, wrong, 1);
        assert!(text.contains(wrong), "{wrong}");
        let output = run(&["check", "-f", "-"], &text);
        assert!(stdout(&output).contains(&format!("[{code}]")), "{code}: {}", stdout(&output));
        let custom = run(&["check", "-f", "-"], &[&text, CUSTOM].concat());
        assert_eq!(stdout(&custom).contains(&format!("[{code}]")), code == "no-dns", "{}", stdout(&custom));
    }
}
