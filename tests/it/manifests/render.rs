//! Manifests as kubectl and helm render them, and their objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use palisade_testkit::apiserver::program;
use serde_json::Value;

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<(String, String), Value>;

/// The directory of manifests.
pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// A file in it.
pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(manifests().join(file)).unwrap()
}

/// The output of `kubectl kustomize` for a directory in it.
pub(crate) fn kustomize(directory: &str) -> String {
    let kubectl = program("kubectl").unwrap();
    run(Command::new(kubectl).arg("kustomize").arg(manifests().join(directory))).unwrap()
}

/// The output of helm, or its errors.
pub(crate) fn helm(arguments: &[&str]) -> Result<String, String> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("PALISADE_CACHE").unwrap_or_else(|| variable("HOME").unwrap().join(".cache/palisade"));
    run(Command::new(cache.join("tools/helm/bin/helm")).args(arguments))
}

/// The output of `helm template` for the chart with these values, or its errors.
pub(crate) fn template(values: &[&str]) -> Result<String, String> {
    let chart = manifests().join("chart");
    let mut arguments = vec!["template", "palisade", chart.to_str().unwrap(), "--namespace", "kube-system"];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    helm(&arguments)
}

/// The objects of the chart with these values.
pub(crate) fn chart(values: &[&str]) -> Objects {
    objects(&template(values).unwrap())
}

fn run(command: &mut Command) -> Result<String, String> {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; hack/test builds what is missing"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The objects of YAML documents.
pub(crate) fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let key = |object: &Value| {
        let text = |pointer: &str| object.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/kind"), text("/metadata/name"))
    };
    let count = documents.len();
    let objects: Objects = documents.into_iter().map(|object| (key(&object), object)).collect();
    assert_eq!(objects.len(), count, "two objects have the same name");
    objects
}

/// The pod template's spec of the one DaemonSet.
pub(crate) fn pod_spec(objects: &Objects) -> &Value {
    let mut sets = objects.iter().filter(|((kind, _), _)| kind == "DaemonSet");
    let (Some((_, set)), None) = (sets.next(), sets.next()) else { panic!("not one DaemonSet") };
    &set["spec"]["template"]["spec"]
}

/// The containers of the one DaemonSet, init containers included.
pub(crate) fn containers(objects: &Objects) -> Vec<Value> {
    let pod = pod_spec(objects);
    let lists = ["containers", "initContainers"].map(|field| pod.get(field).and_then(Value::as_array).cloned());
    lists.into_iter().flatten().flatten().collect()
}

/// The arguments of its first container.
pub(crate) fn agent_arguments(objects: &Objects) -> Vec<String> {
    let arguments = containers(objects).remove(0)["args"].take();
    serde_json::from_value(arguments).unwrap()
}
