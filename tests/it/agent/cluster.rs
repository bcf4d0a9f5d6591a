//! An API server that the node reaches.

use std::io;
use std::net::IpAddr;

use palisade_lab::Host;
use palisade_testkit::apiserver::{ApiServer, Authorization, pod_path};
use serde_json::json;

use crate::agent::bed::Bed;

/// Starts an API server on a host outside the cluster, with the bed's pods on it.
pub(crate) fn start(bed: &Bed) -> ApiServer {
    start_with(bed, Authorization::AlwaysAllow).0
}

/// As [`start`], and the host.
pub(crate) fn start_with(bed: &Bed, authorization: Authorization) -> (ApiServer, Host) {
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    let host = bed.lab.add_host("control-plane", &[address]).unwrap();
    let place = host.clone();
    let api = ApiServer::builder()
        .launcher(move |command| place.namespace().run(|| command.spawn()).map_err(io::Error::other)?)
        .address(address)
        .authorization(authorization)
        .start()
        .unwrap();
    let (range4, range6) = bed.node().pod_ranges();
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": bed.node().name() },
        "spec": { "podCIDR": range4, "podCIDRs": [range4, range6] },
    });
    api.create(&node).unwrap();
    for namespace in ["shop", "ops"] {
        api.create_namespace(namespace, &json!({})).unwrap();
    }
    create_pods(bed, &api);
    (api, host)
}

/// Makes the bed's pods.
pub(crate) fn create_pods(bed: &Bed, api: &ApiServer) {
    for pod in [&bed.web, &bed.client] {
        let (namespace, name) = pod.name().split_once('/').unwrap();
        api.create_pod(namespace, name, pod.node(), &json!({ "app": name })).unwrap();
        api.set_pod_running(namespace, name, &pod.addresses()).unwrap();
    }
}

/// Deletes the bed's pods.
pub(crate) fn delete_pods(bed: &Bed, api: &ApiServer) {
    for pod in [&bed.web, &bed.client] {
        let (namespace, name) = pod.name().split_once('/').unwrap();
        api.delete(&pod_path(namespace, name)).unwrap();
    }
}

/// Relabels the pod ops/client.
pub(crate) fn label_client(api: &ApiServer, app: &str) {
    api.label(&pod_path("ops", "client"), &json!({ "app": app })).unwrap();
}
