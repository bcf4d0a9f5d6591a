//! The tables as JSON, which the page judges flows by.

use std::collections::{BTreeMap, BTreeSet};

use palisade_analysis::graph::{Member, Rule, Side, Vertex};
use palisade_analysis::reach::PortSet;
use palisade_policy::flow::NodeFacts;
use palisade_policy::input::{IpBlock, Protocol};
use serde_json::{Map, Value, json};

use super::{Shown, but, id};

/// Of the format.
const VERSION: u32 = 1;

/// Sets that are written once, and referred to by their number.
struct Once<T>(BTreeMap<T, usize>);

impl<T: Ord + Clone> Once<T> {
    fn number(&mut self, of: &T) -> usize {
        let next = self.0.len();
        *self.0.entry(of.clone()).or_insert(next)
    }

    /// The sets by their numbers.
    fn written(self, of: impl Fn(&T) -> Value) -> Vec<Value> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by_key(|(_, number)| *number);
        all.iter().map(|(set, _)| of(set)).collect()
    }
}

pub(super) fn json(shown: &Shown<'_>, facts: &NodeFacts, source: &str) -> Value {
    let (mut ports, mut peers) = (Once(BTreeMap::new()), Once(BTreeMap::new()));
    let graph = shown.graph;
    let workloads: Vec<_> = graph.workloads.iter().map(|vertex| workload(vertex, &mut ports, &mut peers)).collect();
    let links: Vec<_> = shown
        .links
        .iter()
        .map(|link| {
            json!({
                "from": id(&link.from), "fromBut": but(&link.from), "to": id(&link.to), "toBut": but(&link.to),
                "ports": ports.number(&link.ports),
            })
        })
        .collect();
    let nodes: Vec<_> = graph
        .nodes
        .iter()
        .map(|(name, node)| {
            let pods: Vec<_> = node.pods.iter().map(pod).collect();
            json!({ "name": &**name, "addresses": node.addresses, "pods": pods })
        })
        .collect();
    json!({
        "version": VERSION, "source": source, "allowEgressToOwnNode": facts.allow_egress_to_own_node,
        "policies": graph.policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rules": graph.rules.iter().map(rule).collect::<Vec<_>>(),
        "workloads": workloads, "nodes": nodes, "links": links,
        "portSets": ports.written(port_set), "peerSets": peers.written(|set| json!(set)),
    })
}

fn rule(rule: &Rule) -> Value {
    let block = |IpBlock { cidr, except }: &IpBlock| {
        let except: Vec<_> = except.iter().map(ToString::to_string).collect();
        json!({ "cidr": cidr.to_string(), "except": except })
    };
    json!({
        "policy": rule.policy, "direction": rule.direction.to_string(), "index": rule.index,
        "everyone": rule.everyone, "text": rule.text, "blocks": rule.blocks.iter().map(block).collect::<Vec<_>>(),
    })
}

fn workload(vertex: &Vertex, ports: &mut Once<PortSet>, peers: &mut Once<BTreeSet<usize>>) -> Value {
    let pods: Vec<_> = vertex.pods.iter().map(pod).collect();
    let [egress, ingress] = vertex.sides.each_ref().map(|own| side(own, ports, peers));
    json!({
        "name": vertex.name, "namespace": &*vertex.namespace, "pods": pods, "egress": egress, "ingress": ingress,
    })
}

fn pod(pod: &Member) -> Value {
    json!({
        "name": pod.key.to_string(), "node": pod.node.as_deref(), "addresses": pod.addresses, "unclear": pod.unclear,
    })
}

fn side(side: &Side, ports: &mut Once<PortSet>, peers: &mut Once<BTreeSet<usize>>) -> Value {
    let grants: Vec<_> = side
        .grants
        .iter()
        .map(|grant| {
            json!({
                "rule": grant.rule, "family": grant.family.map(|family| family.to_string()),
                "ports": ports.number(&grant.ports), "peers": peers.number(&grant.peers),
            })
        })
        .collect();
    let addresses: Vec<_> =
        side.addresses.iter().map(|(rule, allowed)| json!({ "rule": rule, "ports": ports.number(allowed) })).collect();
    json!({ "isolatedBy": side.isolated_by, "grants": grants, "addresses": addresses })
}

fn port_set(set: &PortSet) -> Value {
    let mut ranges = Map::new();
    for protocol in Protocol::ALL.into_iter().filter(|protocol| !set.of(*protocol).is_empty()) {
        ranges.insert(protocol.to_string(), json!(set.of(protocol)));
    }
    json!({ "text": set.to_string(), "portless": set.portless, "ranges": ranges })
}
