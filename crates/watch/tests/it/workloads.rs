//! Workloads: which verbs read them, as which pods, and which mistakes are found.
//!
//! Seen to fail when: plain reading accepted them; labels were those of the workload instead of its template; a
//! CronJob's template was looked up where a Deployment's is; ports of sidecars were missing; two workloads of the same
//! name were one pod, or the order of files decided which had the name; a mistake in a template passed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use palisade_policy::input::{ContainerPort, Protocol};
use palisade_watch::{Objects, read_manifests, read_manifests_and_workloads, survey_manifests};

const ALL: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: {name: web, namespace: shop, labels: {of: the-workload}}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {kind: cronjob}}, spec: {}}}}}
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: shop, labels: {of: the-workload}}
  spec:
    template:
      metadata: {labels: {kind: deployment}}
      spec:
        hostNetwork: true
        containers:
        - ports: [{name: http, containerPort: 8080}, {containerPort: 81, protocol: UDP}]
        initContainers:
        - ports: [{name: once, containerPort: 1}]
        - restartPolicy: Always
          ports: [{name: metrics, containerPort: 9090}]
---
apiVersion: apps/v1
kind: StatefulSetList
items:
- metadata: {name: db, namespace: shop}
  spec: {template: {metadata: {labels: {kind: statefulset}}}}
---
apiVersion: extensions/v1beta1
kind: DaemonSet
metadata: {name: logs}
spec: {template: {metadata: {labels: {kind: daemonset}}, spec: {}}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: db, namespace: shop}
spec: {template: {spec: {}}}
---
apiVersion: batch/v1
kind: Job
metadata: {generateName: import-, namespace: shop}
spec: {template: {metadata: {labels: {kind: job}}, spec: {}}}
---
apiVersion: v1
kind: Pod
metadata: {name: logs, labels: {kind: pod}}
---
apiVersion: example.com/v1
kind: Deployment
metadata: {name: other}
";

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("palisade-workloads-{}-{name}.yaml", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

fn kinds(objects: &Objects) -> BTreeMap<String, Option<&str>> {
    objects.pods.iter().map(|pod| (pod.key.to_string(), pod.labels.get("kind").map(String::as_str))).collect()
}

#[test]
fn each_is_one_pod_of_its_template() {
    let path = file("all", ALL);
    let objects = read_manifests_and_workloads(std::slice::from_ref(&path)).unwrap();
    fs::remove_file(path).unwrap();
    let expected = [
        ("default/logs", Some("pod")),
        ("default/logs.daemonset", Some("daemonset")),
        ("shop/db", Some("statefulset")),
        ("shop/db.replicaset", None),
        ("shop/import", Some("job")),
        ("shop/web", Some("deployment")),
        ("shop/web.cronjob", Some("cronjob")),
    ];
    assert_eq!(kinds(&objects), expected.map(|(name, kind)| (name.to_owned(), kind)).into());
    let web = objects.pods.iter().find(|pod| pod.key.to_string() == "shop/web").unwrap();
    assert!(web.host_network && web.addresses.is_empty() && !web.labels.contains_key("of"));
    let port = |name: &str, port| ContainerPort { name: name.into(), protocol: Protocol::Tcp, port };
    assert_eq!(web.ports, [port("http", 8080), port("metrics", 9090)]);
    assert_eq!(objects.ignored, [("Deployment".to_owned(), 1)].into());
}

#[test]
fn only_pods_are_enforced() {
    let path = file("plain", ALL);
    let objects = read_manifests(std::slice::from_ref(&path)).unwrap();
    fs::remove_file(path).unwrap();
    assert_eq!(kinds(&objects), [("default/logs".to_owned(), Some("pod"))].into());
    assert_eq!(objects.ignored.values().sum::<usize>(), 7);
}

#[test]
fn mistakes_are_found() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  template:
    metadata:
      labels: {app: 'no good'}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: b}
spec:
  template: {}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: c}
spec: {template: {}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: c}
spec: {template: {}}
";
    let path = file("wrong", text);
    let errors = read_manifests_and_workloads(std::slice::from_ref(&path)).unwrap_err();
    let survey = survey_manifests(std::slice::from_ref(&path));
    let plain = read_manifests(std::slice::from_ref(&path)).unwrap();
    fs::remove_file(path).unwrap();
    let mut found: Vec<_> = errors.findings.iter().map(|finding| (finding.line.unwrap(), &*finding.field)).collect();
    found.sort_unstable();
    assert_eq!(found, [(8, "spec.template.metadata.labels.app"), (13, "spec.jobTemplate"), (21, "")]);
    assert_eq!((survey.findings.len(), survey.state.pods.len(), plain.pods.len()), (3, 3, 0));
    let sound = survey.written.values().filter(|written| written.sound).count();
    assert_eq!(sound, 1);
    assert!(survey.written.values().all(|written| written.workload.is_some()));
}
