//! Labels that controllers add to pods: `check` and `trace` know them, or say that they do not.
//!
//! Seen to fail when: the labels are missing; an unknown value matches nothing, or `trace` does not mention it;
//! ReplicationController is not read.

use super::{run, stderr, stdout};

const WORKLOADS: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: batch/v1, kind: Job, metadata: {name: import}, spec: {template: {spec: {}}}}
- {apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {jobTemplate: {spec: {template: {spec: {}}}}}}
- {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {template: {spec: {}}}}
- {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: many}, spec: {replicas: 3, template: {spec: {}}}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {}}}}
- {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: logs}, spec: {template: {spec: {}}}}
- {apiVersion: v1, kind: ReplicationController, metadata: {name: old}, spec: {template: {metadata: {labels: {app: old}}, spec: {}}}}
";

fn with(selector: &str) -> String {
    format!(
        "{WORKLOADS}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\n\
         spec: {{podSelector: {{matchLabels: {{{selector}}}}}}}\n"
    )
}

#[test]
fn labels_of_controllers_are_known_or_said_to_be_unknown() {
    // The label, its pod, and whether its value is known.
    for (selector, pod, is_known) in [
        ("batch.kubernetes.io/job-name: import", "import", true),
        ("job-name: import", "import", true),
        ("job-name: nightly-123", "nightly", false),
        ("batch.kubernetes.io/controller-uid: abc", "import", false),
        ("statefulset.kubernetes.io/pod-name: db-0", "db", true),
        ("apps.kubernetes.io/pod-index: '0'", "db", true),
        ("statefulset.kubernetes.io/pod-name: many-2", "many", false),
        ("pod-template-hash: abc", "web", false),
        ("controller-revision-hash: abc", "logs", false),
        ("app: old", "old", true),
    ] {
        let objects = with(selector);
        let checked = run(&["check", "-f", "-"], &objects);
        assert!(!stdout(&checked).contains("selects-no-pods"), "{selector}: {}", stdout(&checked));
        let other = if pod == "old" { "web" } else { "old" };
        let flow = ["trace", "-f", "-", "-n", "default", "--from", other, "--to", pod, "--port", "1"];
        let traced = run(&flow, &objects);
        assert_ne!(traced.status.code(), Some(2), "{}", stderr(&traced));
        let text = stdout(&traced);
        assert_eq!(text.starts_with("deny"), is_known, "{selector}: {text}");
        assert_eq!(text.contains("whose value only a controller knows"), !is_known, "{selector}: {text}");
    }
    // A known value is not another one.
    let checked = run(&["check", "-f", "-"], &with("statefulset.kubernetes.io/pod-name: other-0, app: x"));
    assert!(stdout(&checked).contains("selects-no-pods"), "{}", stdout(&checked));
}
