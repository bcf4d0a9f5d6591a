//! Policies and labels in a real API server, and their effect on packets, log, metrics and table.

use std::collections::BTreeMap;

use palisade_testkit::apiserver::{namespace_path, network_policy_path};
use serde_json::json;

use crate::agent::bed::{ALLOW, Bed, DENY};
use crate::agent::cluster::{label_client, start};
use crate::common::running::{Agent, assert_idle};

#[test]
fn packets_log_metrics_and_table_tell_the_same_story() {
    let bed = Bed::new("story");
    let api = start(&bed);
    let agent = bed.agent_of(&api.kubeconfig());
    agent.wait_ready();
    bed.assert_reached(true);
    assert_same_story(&bed, &agent, &[], [4, 0]);
    let select = |label: &str| api.label(&namespace_path("ops"), &json!({ "team": label })).unwrap();

    // kubectl apply: the log names the policy, the metrics count it, the table has its chain and an element that points
    // to it.
    let commit = agent.after("policy shop/deny-all added", || api.apply(DENY).unwrap());
    bed.assert_reached(false);
    assert_eq!((&commit["kind"], &commit["level"]), (&json!("incremental"), &json!("INFO")), "{commit}");
    assert_same_story(&bed, &agent, &["deny-all"], [2, 2]);
    let table = bed.list();
    for address in bed.web.addresses() {
        let element = format!("{address} comment \"shop/web\" : jump ingress/shop/deny-all");
        assert!(table.contains(&element), "no {element}\n{table}");
    }

    // A second policy allows a peer, but no label matches yet; then the namespace's does, then the pod's does not.
    agent.after("policy shop/web-allow added", || api.apply(ALLOW).unwrap());
    bed.assert_reached(false);
    assert_same_story(&bed, &agent, &["deny-all", "web-allow"], [2, 2]);
    agent.after("namespace ops changed", || select("friends"));
    bed.assert_reached(true);
    agent.after("pod ops/client changed", || label_client(&api, "other"));
    bed.assert_reached(false);
    agent.after("pod ops/client changed", || label_client(&api, "client"));
    bed.assert_reached(true);
    assert_same_story(&bed, &agent, &["deny-all", "web-allow"], [2, 2]);
    agent.after("namespace ops changed", || select("enemies"));
    bed.assert_reached(false);

    // A policy is edited, then both are deleted: traffic passes again.
    agent.after("policy shop/web-allow changed", || api.apply(&ALLOW.replace("friends", "enemies")).unwrap());
    bed.assert_reached(true);
    let delete = |name: &str| api.delete(&network_policy_path("shop", name)).unwrap();
    agent.after("policy shop/web-allow deleted", || delete("web-allow"));
    bed.assert_reached(false);
    assert_same_story(&bed, &agent, &["deny-all"], [2, 2]);
    agent.after("policy shop/deny-all deleted", || delete("deny-all"));
    bed.assert_reached(true);
    assert_same_story(&bed, &agent, &[], [4, 0]);

    // With watches open, a policy in force and nothing to do.
    agent.after("policy shop/deny-all added", || api.apply(DENY).unwrap());
    assert_idle(&agent);
    bed.assert_reached(false);
}

/// The log, the metrics and the table agree. In force are these policies of namespace shop, which all select shop/web;
/// `isolated` has the numbers of local pod IPs without isolation and isolated for ingress.
fn assert_same_story(bed: &Bed, agent: &Agent, policies: &[&str], isolated: [u64; 2]) {
    let table = bed.list();
    let metric = |name: &str, labels: &str| agent.metric(&format!("palisade_{name}{labels}"));
    assert_eq!(metric("policies", ""), policies.len() as u64);
    assert_eq!(
        ["none", "ingress"].map(|kind| metric("local_addresses", &format!("{{isolation=\"{kind}\"}}"))),
        isolated
    );

    // The commits, and what they wrote.
    let events = agent.events();
    let commits: Vec<_> = events.iter().filter(|event| event["message"] == "committed").collect();
    let counted: u64 = ["full", "incremental", "repair"].iter().map(|kind| agent.commits(kind)).sum();
    assert_eq!(commits.len() as u64, counted);
    let operations: u64 = commits.iter().map(|commit| commit["operations"].as_u64().unwrap()).sum();
    assert_eq!(operations, metric("commit_operations_total", ""));

    // The table's objects, including the group's chain.
    for kind in ["chain", "map", "set"] {
        let listed = table.lines().filter(|line| line.starts_with(&format!("\t{kind} "))).count();
        assert_eq!(metric("objects", &format!("{{kind=\"{kind}\"}}")), listed as u64, "{kind}\n{table}");
    }
    let groups: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("\tchain ingress/")).collect();
    if policies.is_empty() {
        assert!(groups.is_empty() && !table.contains("jump ingress/"), "{table}");
    } else {
        assert_eq!(groups, [format!("shop/{} {{", policies.join("_"))], "{table}");
        assert!(table.contains(&format!("comment \"shop: {}\"", policies.join(", "))), "{table}");
    }

    // The drops.
    let dropped = dropped(&table);
    assert_eq!(dropped.len(), 20, "{table}");
    for ([direction, reason, family], [packets, bytes]) in dropped {
        let labels = format!("_total{{direction=\"{direction}\",reason=\"{reason}\",family=\"ipv{family}\"}}");
        // The agent reads them from the kernel once a second at most.
        agent.wait(&format!("{packets} packets and {bytes} bytes of {labels}"), || {
            [metric("dropped_packets", &labels), metric("dropped_bytes", &labels)] == [packets, bytes]
        });
        // Three packets of each family are sent at a time.
        let by_policy = direction == "ingress" && reason == "policy" && !policies.is_empty();
        assert!(!by_policy || packets >= 3, "{labels}: {packets}");
    }
}

/// The values of the named counters of drops, by direction, reason and family.
fn dropped(table: &str) -> BTreeMap<[String; 3], [u64; 2]> {
    let lines: Vec<_> = table.lines().map(str::trim).collect();
    let counter = |pair: &[&str]| {
        let name = pair[0].strip_prefix("counter drop/")?.strip_suffix(" {")?;
        let key = match name.split('/').collect::<Vec<_>>()[..] {
            [direction, reason, family] => [direction, reason, family],
            [reason, family] => ["none", reason, family],
            _ => panic!("{name}"),
        };
        let values = pair[1].strip_prefix("packets ").and_then(|values| values.split_once(" bytes ")).unwrap();
        Some((key.map(str::to_owned), [values.0.parse().unwrap(), values.1.parse().unwrap()]))
    };
    lines.windows(2).filter_map(counter).collect()
}
