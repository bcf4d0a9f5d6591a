//! The two behaviours of the API server alone.

use palisade_testkit::apiserver::{ApiServer, Error, network_policy_path};
use serde_json::{Value, json};

/// A policy that allows a range of ports.
fn policy(namespace: &str, name: &str, port: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "namespace": namespace, "name": name, "labels": { "of": namespace } },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "ports": [port] }] },
    })
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn case_49_policies_are_created_read_changed_and_deleted() {
    let api = ApiServer::shared();
    let namespace = api.unique_namespace("policies").unwrap();
    let collection = network_policy_path(&namespace, "");
    let collection = collection.trim_end_matches('/');
    for name in ["one", "two", "three"] {
        let created = api.create(&policy(&namespace, name, &json!({ "port": 80 }))).unwrap();
        // The server writes the omitted fields.
        assert_eq!(created["spec"]["ingress"][0]["ports"][0], json!({ "port": 80, "protocol": "TCP" }));
    }
    let of = |path: &str| names(&api.get(&format!("{path}?labelSelector=of%3D{namespace}")).unwrap()).len();
    assert_eq!(of(collection), 3);
    assert_eq!(of("/apis/networking.k8s.io/v1/networkpolicies"), 3);

    let one = network_policy_path(&namespace, "one");
    api.patch(&one, &json!({ "spec": { "policyTypes": ["Egress", "Ingress"] } })).unwrap();
    let mut object = api.get(&one).unwrap();
    assert_eq!(object["spec"]["policyTypes"], json!(["Egress", "Ingress"]));
    object["spec"]["ingress"] = json!([]);
    assert!(api.request("PUT", &one, Some(&object)).unwrap()["spec"].get("ingress").is_none(), "empty is as absent");
    assert!(
        matches!(api.request("PUT", &one, Some(&object)), Err(Error::Refused { status: 409, .. })),
        "a stale update"
    );

    api.delete(&one).unwrap();
    assert!(matches!(api.get(&one), Err(Error::Refused { status: 404, .. })));
    assert_eq!(names(&api.get(collection).unwrap()), ["three", "two"]);
    api.delete(collection).unwrap();
    assert_eq!(names(&api.get(collection).unwrap()), [""; 0]);
}

#[test]
fn case_50_end_ports_need_a_number_to_begin_with() {
    let api = ApiServer::shared();
    let namespace = api.unique_namespace("end-ports").unwrap();
    let create = |name: &str, port: Value| api.create(&policy(&namespace, name, &port));
    let range = create("range", json!({ "protocol": "TCP", "port": 30000, "endPort": 32768 })).unwrap();
    assert_eq!(range["spec"]["ingress"][0]["ports"][0]["endPort"], 32768);
    create("single", json!({ "port": 30000, "endPort": 30000 })).unwrap();
    for (name, port) in [
        ("no-port", json!({ "protocol": "TCP", "endPort": 32768 })),
        ("named", json!({ "port": "dns", "endPort": 32768 })),
        ("backwards", json!({ "port": 30001, "endPort": 30000 })),
        ("beyond", json!({ "port": 30000, "endPort": 65536 })),
    ] {
        match create(name, port) {
            Err(Error::Refused { status: 422, message, .. }) => assert!(message.contains("endPort"), "{message}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}
