//! The agent as the service account of `manifests/install.yaml`: its rights suffice, and each of them is needed.
//!
//! If a needed right is missing, the log says what the ClusterRole must allow.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use palisade_lab::{Host, Signal};
use palisade_testkit::apiserver::{ApiServer, Authorization, network_policy_path};
use serde_json::{Value, json};

use crate::agent::bed::{Bed, DENY};
use crate::agent::cluster::{create_pods, delete_pods, start_with};
use crate::common::running::{Agent, LIMIT, wait};

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/install.yaml");
const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/palisade";

/// A right: a verb, and the group and name of the resource.
type Right = (String, String, String);

#[test]
fn the_rights_of_the_manifest_suffice_and_each_is_needed() {
    let bed = Bed::new("rights");
    let (api, host) = start_with(&bed, Authorization::Rbac);
    wait(LIMIT, "namespace kube-system", || api.get("/api/v1/namespaces/kube-system").is_ok());
    api.kubectl(&["apply", "--filename", INSTALL]).unwrap();
    store_unenforceable(&api, &host);
    let kubeconfig = as_service_account(&bed, &api);
    let whole = api.get(ROLE).unwrap()["rules"].clone();

    // With all rights everything works, and no message complains.
    wait_for_rights(&api, &rights(&whole));
    let agent = bed.agent_of(&kubeconfig);
    agent.wait_ready();
    delete_a_policy(&api, &agent);
    agent.wait("Event on the policy", || !events(&api).is_empty());
    assert_eq!(complaints(&agent), [""; 0]);
    assert_eq!(agent.watch_errors(), 0);
    agent.end(Signal::SIGTERM);

    // Without one of them, exactly that one is reported.
    let all = rights(&whole);
    assert_eq!(all.len(), 11, "a right that no feature uses, or one that is not tried here: {all:?}");
    for missing in &all {
        api.patch(ROLE, &json!({ "rules": without(&whole, missing) })).unwrap();
        wait_for_rights(&api, &all.iter().filter(|right| *right != missing).cloned().collect());
        fs::write(bed.log(), "").unwrap();
        let (verb, _, resource) = missing;
        // The table names pods that are gone when the next agent starts, so the agent asks for them.
        let asks_for_pods = verb == "get" && resource == "pods";
        if asks_for_pods {
            delete_pods(&bed, &api);
        }
        let agent = bed.agent_of(&kubeconfig);
        match (verb.as_str(), resource.as_str()) {
            ("list", _) => {
                let reason = agent.wait_missing("not all been listed");
                assert!(reason.contains("sync: "), "{reason}");
            }
            ("watch", _) => agent.wait_ready(),
            ("get", "namespaces") => {
                agent.wait_ready();
                delete_a_policy(&api, &agent);
            }
            ("get", "networkpolicies" | "nodes" | "pods") | ("create", "events") => agent.wait_ready(),
            _ => panic!("{missing:?} is not used: take it out of the ClusterRole"),
        }
        agent.wait(&format!("message about {missing:?}"), || {
            complaints(&agent).iter().any(|complaint| names(complaint, verb, resource))
        });
        if ["list", "watch"].contains(&verb.as_str()) {
            let series = format!("palisade_watch_errors_total{{resource=\"{resource}\",reason=\"{verb}\"}}");
            agent.wait(&series, || agent.find_metric(&series).is_some_and(|errors| errors > 0));
        }
        // There is no other complaint, so each message is about its right.
        let others: Vec<_> = complaints(&agent).into_iter().filter(|found| !names(found, verb, resource)).collect();
        assert_eq!(others, [""; 0], "without {missing:?}");
        agent.end(Signal::SIGTERM);
        if asks_for_pods {
            create_pods(&bed, &api);
        }
    }
}

/// The rights in rules, one by one.
fn rights(rules: &Value) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for (group, resource, verb) in each(rule) {
            rights.insert((verb, group, resource));
        }
    }
    rights
}

/// Group, resource and verb of every right in a rule.
fn each(rule: &Value) -> Vec<(String, String, String)> {
    let words = |field: &str| -> Vec<String> {
        rule[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = Vec::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            all.extend(words("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
        }
    }
    all
}

/// The rules without one right.
fn without(rules: &Value, missing: &Right) -> Value {
    let kept = rights(rules).into_iter().filter(|right| right != missing);
    kept.map(|(verb, group, resource)| json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] }))
        .collect()
}

/// Waits until the server grants the service account just these, of all that it may have had.
fn wait_for_rights(api: &ApiServer, granted: &BTreeSet<Right>) {
    let resources =
        [("", "pods"), ("", "nodes"), ("", "namespaces"), ("networking.k8s.io", "networkpolicies"), ("", "events")];
    let all = resources.into_iter().flat_map(|(group, resource)| {
        ["get", "list", "watch", "create"].map(|verb| (verb.to_owned(), group.to_owned(), resource.to_owned()))
    });
    for right in all {
        let (verb, group, resource) = &right;
        let attributes = json!({ "verb": verb, "group": group, "resource": resource });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": { "user": "system:serviceaccount:kube-system:palisade", "resourceAttributes": attributes },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let allowed = || api.request("POST", path, Some(&review)).unwrap()["status"]["allowed"] == true;
        wait(LIMIT, &format!("{right:?} as set"), || allowed() == granted.contains(&right));
    }
}

/// A kubeconfig with a token of the service account.
fn as_service_account(bed: &Bed, api: &ApiServer) -> PathBuf {
    let token = api.kubectl(&["create", "token", "palisade", "--namespace", "kube-system"]).unwrap();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(api.kubeconfig()).unwrap()).unwrap();
    config["users"][0]["user"]["token"] = token.trim().into();
    let path = bed.log().with_file_name("kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// A policy of shop with a term that cannot be enforced, from before the server refused such terms.
fn store_unenforceable(api: &ApiServer, host: &Host) {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "namespace": "shop", "name": "from-before", "uid": "5d2c7a70-0000-4000-8000-000000000001",
            "creationTimestamp": "2020-01-01T00:00:00Z",
        },
        "spec": {
            "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/99" } }] }],
        },
    });
    host.namespace().run(|| api.store_policy(&policy)).unwrap().unwrap();
}

/// The Events on policies.
fn events(api: &ApiServer) -> Vec<Value> {
    api.get("/api/v1/namespaces/shop/events").unwrap()["items"].as_array().unwrap().clone()
}

/// Creates a policy, and deletes it once the agent has it.
fn delete_a_policy(api: &ApiServer, agent: &Agent) {
    agent.after("policy shop/deny-all added", || api.apply(DENY).unwrap());
    agent.after("policy shop/deny-all deleted", || api.delete(&network_policy_path("shop", "deny-all")).unwrap());
}

/// The log's messages about rights.
fn complaints(agent: &Agent) -> Vec<String> {
    let about = |event: &Value| {
        let words = [&event["message"], &event["error"]].map(|words| words.as_str().unwrap_or_default());
        words.concat()
    };
    agent.events().iter().map(about).filter(|words| words.contains("the ClusterRole must allow")).collect()
}

/// Whether a message names a right.
fn names(complaint: &str, verb: &str, resource: &str) -> bool {
    let (_, rights) = complaint.split_once("the ClusterRole must allow").unwrap();
    rights.contains(verb) && rights.contains(resource)
}
