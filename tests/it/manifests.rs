//! The installation: `manifests/install.yaml`, the kustomize base and overlays, and the chart contain the same objects,
//! which a real API server accepts; the chart's values have their documented effects, and bad ones are refused with
//! clear messages.
//!
//! `agent/rights.rs` tests that the ClusterRole has exactly the rights that the agent needs.
//!
//! Seen to fail when:
//! - install.yaml is edited by hand; the chart's cleanup has another image than its agent, or no hook; the chart's
//!   DaemonSet lacks `readOnlyRootFilesystem`, its ClusterRole has another verb; an overlay adds a prefix to names;
//!   `appVersion` or an image's tag is another; the chart's version is a word; the Dockerfile has another version, or
//!   another compiler;
//! - cleanup.yaml has a field that does not exist; its container has SYS_ADMIN too;
//! - the chart misspells a flag, lacks one of the program's, ignores the log's level, or lets `podLabels` replace the
//!   selector's label (`values.rs`);
//! - the schema accepts unknown keys, or port 65536; it misspells a value; it lacks a value; a default is another
//!   (`values.rs`).

mod pages;
mod render;
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use palisade_testkit::apiserver::{ApiServer, namespace_path};
use serde_json::{Value, json};

use render::{Objects, agent_arguments, chart, containers, helm, kustomize, manifests, objects, pod_spec, read};

/// The overlays, and the chart's values for the same cluster.
const OVERLAYS: [(&str, &[&str]); 4] =
    [("bridge", &[]), ("flannel", &[]), ("k3s", &[]), ("nodelocaldns", &["untracked=judge"])];

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn one_file_is_the_base_and_one_the_clean_up() {
    for (file, directory) in [("install.yaml", "base"), ("cleanup.yaml", "cleanup")] {
        let written = read(file);
        let (heading, rest) = written.split_at(written.find("apiVersion").unwrap());
        assert!(heading.lines().all(|line| line.starts_with('#')), "{heading}");
        assert_eq!(rest, kustomize(directory), "run hack/manifests");
    }
}

/// `images:` of an overlay sets a mirror for both, and so do the chart's values, pull secrets included.
#[test]
fn the_clean_up_of_the_chart_is_that_of_the_manifests_after_an_uninstall() {
    let name = ("DaemonSet".to_owned(), "palisade-cleanup".to_owned());
    assert!(!chart(&[]).contains_key(&name));
    let mut made = chart(&["cleanup=true"]).remove(&name).unwrap();
    let hook = made["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
    assert_eq!(hook, json!({ "helm.sh/hook": "post-delete" }));
    let expected = objects(&read("cleanup.yaml"));
    assert_same(&Objects::from([(name.clone(), made)]), &expected, "the chart");
    let mirrored = chart(&[
        "cleanup=true",
        "image.repository=registry.example/mirror/palisade",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=mirror",
        "nodeSelector.pool=a",
    ]);
    let pod = |name: &str| &mirrored[&("DaemonSet".to_owned(), name.to_owned())]["spec"]["template"]["spec"];
    let (agent, cleanup) = (pod("palisade"), pod("palisade-cleanup"));
    for field in ["imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName", "securityContext"] {
        assert_eq!(cleanup[field], agent[field], "{field}");
    }
    for container in [&cleanup["initContainers"][0], &cleanup["containers"][0]] {
        for field in ["image", "imagePullPolicy"] {
            assert_eq!(container[field], agent["containers"][0][field], "{field}");
        }
    }
}

/// The image's name in the manifests, without its version.
fn image() -> String {
    let values: Value = serde_saphyr::from_str(&read("chart/values.yaml")).unwrap();
    values["image"]["repository"].as_str().unwrap().to_owned()
}

#[test]
fn the_image_is_named_in_one_place_with_its_registry() {
    let component: Value = serde_saphyr::from_str(&read("image/kustomization.yaml")).unwrap();
    let named = json!([{ "name": "palisade", "newName": image(), "newTag": VERSION }]);
    assert_eq!(component["images"], named);
    let (registry, _) = image().split_once('/').map(|(registry, rest)| (registry.to_owned(), rest.to_owned())).unwrap();
    assert!(registry.contains('.'), "{registry} is not a host");
    for file in ["base/daemonset.yaml", "cleanup/daemonset.yaml"] {
        for line in read(file).lines().filter(|line| line.contains("image:")) {
            assert_eq!(line.trim(), "image: palisade", "{file}");
        }
    }
}

#[test]
fn kustomize_and_chart_make_the_same_objects() {
    let install = objects(&read("install.yaml"));
    let kinds: Vec<_> = install.keys().map(|(kind, name)| format!("{kind} {name}")).collect();
    let expected =
        ["ClusterRole palisade", "ClusterRoleBinding palisade", "DaemonSet palisade", "ServiceAccount palisade"];
    assert_eq!(kinds, expected);
    assert_same(&chart(&[]), &install, "the chart");
    let directories = fs::read_dir(manifests().join("overlays")).unwrap();
    let found: BTreeSet<_> = directories.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, OVERLAYS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, values) in OVERLAYS {
        let overlay = objects(&kustomize(&format!("overlays/{name}")));
        assert_same(&overlay, &chart(values), &format!("overlay {name}"));
    }
}

#[track_caller]
fn assert_same(found: &Objects, expected: &Objects, what: &str) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (key, object) in found {
        assert_eq!(values::differences(object, &expected[key]), [""; 0], "{what}: {key:?}");
    }
}

#[test]
fn helm_lint_is_silent_about_the_chart() {
    let said = helm(&["lint", "--strict", manifests().join("chart").to_str().unwrap()]).unwrap();
    let complaints: Vec<_> = said.lines().filter(|line| line.starts_with('[') && !line.contains("icon")).collect();
    assert_eq!(complaints, [""; 0], "{said}");
}

#[test]
fn the_api_server_takes_every_object() {
    let api = ApiServer::shared();
    // The server creates it a moment after it is ready.
    let (start, limit) = (Instant::now(), Duration::from_secs(60));
    while api.get(&namespace_path("kube-system")).is_err() {
        assert!(start.elapsed() < limit, "no namespace kube-system");
        thread::sleep(Duration::from_millis(20));
    }
    for (file, count) in [("install.yaml", 4), ("cleanup.yaml", 1)] {
        let path = manifests().join(file);
        // Unknown fields are errors here.
        let said = api.kubectl(&["apply", "--dry-run=server", "--filename", path.to_str().unwrap()]).unwrap();
        assert_eq!(said.lines().filter(|line| line.ends_with(" created (server dry run)")).count(), count, "{said}");
    }
}

#[test]
fn versions_are_those_of_the_program_and_its_compiler() {
    let chart: Value = serde_saphyr::from_str(&read("chart/Chart.yaml")).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(VERSION), &json!(VERSION)));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dockerfile = fs::read_to_string(root.join("Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("image.version=\"{VERSION}\"")), "{dockerfile}");
    let toolchain = fs::read_to_string(root.join("rust-toolchain.toml")).unwrap();
    let rust = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-alpine AS build")), "{rust}: {dockerfile}");
    assert!(dockerfile.contains(&format!("ENV RUSTUP_TOOLCHAIN={rust}")), "{rust}: {dockerfile}");
    for file in ["install.yaml", "cleanup.yaml"] {
        for container in containers(&objects(&read(file))) {
            assert_eq!(container["image"], format!("{}:{VERSION}", image()), "{file}");
        }
    }
}

#[test]
fn pods_have_one_capability_and_nothing_of_the_node_but_its_network() {
    for file in ["install.yaml", "cleanup.yaml"] {
        let objects = objects(&read(file));
        let least = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
            "readOnlyRootFilesystem": true,
        });
        for container in containers(&objects) {
            assert_eq!(container["securityContext"], least, "{file}: {}", container["name"]);
            assert_eq!(container.get("volumeMounts"), None, "{file}: {}", container["name"]);
        }
        let pod = pod_spec(&objects);
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({ "type": "RuntimeDefault" }), "{file}");
        assert_eq!(pod["hostNetwork"], true, "{file}");
        for field in ["volumes", "hostPID", "hostIPC"] {
            assert_eq!(pod.get(field), None, "{file}: {field}");
        }
    }
}

#[test]
fn the_program_takes_the_arguments_and_listens_where_it_is_probed() {
    // Every argument that the chart can set.
    let all = chart(&[
        "port=9441",
        "log.format=json",
        "established=keep",
        "untracked=judge",
        "newPods=pass",
        "bridgeNetfilter=check",
        "verdictCache=off",
        "policyBudget=1000",
        "allowEgressToOwnNode=true",
        "legacyNamespaceIsolation=true",
    ]);
    for arguments in [agent_arguments(&objects(&read("install.yaml"))), agent_arguments(&all)] {
        // It fails at objects that do not exist; wrong usage would end with 2.
        let output = Command::new(env!("CARGO_BIN_EXE_palisade"))
            .args(&arguments)
            .args(["--manifests", "/nowhere"])
            .env("NODE_NAME", "node-1")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    }
    let agent = &containers(&objects(&read("install.yaml")))[0];
    let help = Command::new(env!("CARGO_BIN_EXE_palisade")).args(["agent", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let default = format!("[default: [::]:{}]", agent["ports"][0]["containerPort"]);
    assert!(help.contains(&default), "{default}");
    // Flags without a chart value are of no use to a pod of a DaemonSet.
    let name = |text: &str| text.trim_start().strip_prefix("--")?.split([' ', '=']).next().map(str::to_owned);
    let mut known: BTreeSet<_> = agent_arguments(&all).iter().filter_map(|argument| name(argument)).collect();
    known.extend(["node", "pod", "kubeconfig", "context", "manifests"].map(str::to_owned));
    assert_eq!(help.lines().filter_map(name).collect::<BTreeSet<_>>(), known);
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(agent[probe]["httpGet"], json!({ "path": path, "port": agent["ports"][0]["name"] }));
    }
}
