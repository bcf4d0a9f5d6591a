//! Ports that no destination has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_policy::input::{Direction, IpBlock, ObjectName, Peer, Peers, Pod, Policy, Port, Ports, Protocol, Rule};
use palisade_policy::nearest;

use super::code::Code;
use super::remark::Remark;
use crate::names::names;
use crate::view::{View, rules};

/// Checks every port of every rule.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for policy in view.policies() {
        for (direction, field, rule) in rules(policy) {
            let Ports::Of(ports) = &rule.ports else { continue };
            let destinations = destinations(view, policy, direction, rule);
            for (index, port) in ports.iter().enumerate() {
                let field = format!("{field}.ports[{index}].port");
                let found = match port {
                    Port::Named { protocol, name } => named(&destinations, *protocol, name),
                    Port::Range { protocol, first, last } => numbered(view, &destinations, *protocol, *first, *last),
                    Port::All(_) | Port::Unmatchable => None,
                };
                remarks.extend(found.map(|(code, matter, advice)| {
                    Remark::new(code, ObjectName::policy(&policy.key), field, matter, advice)
                }));
            }
        }
    }
    remarks
}

/// Whose ports a rule is about.
struct Destinations<'a> {
    /// The pods.
    pods: Vec<&'a Pod>,
    /// Whether it is the pods and nothing else.
    are_all: bool,
    /// Whether there are only blocks, so that names are those of the pods in them.
    are_blocks: bool,
}

fn destinations<'a>(view: &View<'a>, policy: &Policy, direction: Direction, rule: &Rule) -> Destinations<'a> {
    match (direction, &rule.peers) {
        (Direction::Ingress, _) => Destinations { pods: view.selected(policy).live, are_all: true, are_blocks: false },
        (Direction::Egress, Peers::Any) => {
            let pods = view.state.pods.values().filter(|pod| pod.is_live()).collect();
            Destinations { pods, are_all: false, are_blocks: false }
        }
        (Direction::Egress, Peers::Of(list)) => {
            let selected = list.iter().filter_map(|peer| view.peer(policy, peer));
            let mut pods: Vec<_> = selected.flat_map(|selected| selected.live).collect();
            let blocks: Vec<_> = list.iter().filter_map(block).collect();
            pods.extend(view.state.pods.values().filter(|pod| pod.is_live() && may_be_in(pod, &blocks)));
            Destinations { pods, are_all: blocks.is_empty(), are_blocks: blocks.len() == list.len() }
        }
    }
}

fn block(peer: &Peer) -> Option<&IpBlock> {
    match peer {
        Peer::IpBlock(block) => Some(block),
        Peer::Pods { .. } | Peer::Unmatchable => None,
    }
}

/// Whether a pod has an IP in one of the blocks, or none yet.
fn may_be_in(pod: &Pod, blocks: &[&IpBlock]) -> bool {
    let is_in = |block: &IpBlock, address: IpAddr| {
        block.cidr.contains(&address) && !block.except.iter().any(|except| except.contains(&address))
    };
    let is_unknown = pod.addresses.is_empty() && !blocks.is_empty();
    is_unknown || pod.addresses.iter().any(|address| blocks.iter().any(|block| is_in(block, address)))
}

type Found = Option<(Code, String, String)>;

fn named(destinations: &Destinations<'_>, protocol: Protocol, name: &str) -> Found {
    let declared: BTreeSet<_> = destinations.pods.iter().flat_map(|pod| &pod.ports).collect();
    let is_same = |port_name: &str| port_name == name;
    if (destinations.pods.is_empty() && !destinations.are_blocks)
        || declared.iter().any(|port| is_same(&port.name) && port.protocol == protocol)
    {
        return None;
    }
    if destinations.are_blocks {
        let matter = format!(
            "the port {name} matches nothing: in an ipBlock only pods have named ports, and no pod of the blocks has a \
             {protocol} port of this name"
        );
        return Some((Code::NamedPortUndefined, matter, "write the number".to_owned()));
    }
    let advice = if let Some(other) = declared.iter().find(|port| is_same(&port.name)) {
        format!("it is a {} port: add protocol: {}", other.protocol, other.protocol)
    } else if declared.is_empty() {
        "no destination pod names its ports: write the number, or name the container's port".to_owned()
    } else {
        let known: BTreeSet<_> = declared.iter().map(|port| &*port.name).collect();
        match nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("the names there are {}", names(known)),
        }
    };
    let matter = format!("no destination pod has a {protocol} port named {name}, so it matches nothing");
    Some((Code::NamedPortUndefined, matter, advice))
}

/// Containers need not declare their ports, so only pods that declare some are judged.
fn numbered(view: &View<'_>, destinations: &Destinations<'_>, protocol: Protocol, first: u16, last: u16) -> Found {
    let declared: Vec<_> = destinations.pods.iter().map(|pod| view.ports(pod)).collect();
    let is_served = |ports: &[(Protocol, u16)]| {
        ports.iter().any(|(declared, port)| *declared == protocol && (first..=last).contains(port))
    };
    let can_judge = destinations.are_all && !declared.is_empty() && !declared.iter().any(|ports| ports.is_empty());
    if !can_judge || declared.iter().any(|ports| is_served(ports)) {
        return None;
    }
    let known: BTreeSet<_> =
        declared.into_iter().flatten().map(|(protocol, port)| format!("{protocol} {port}")).collect();
    let port = if first == last { format!("port {first}") } else { format!("port from {first} to {last}") };
    let matter = format!("no destination pod serves {protocol} {port}");
    let advice = format!("they declare {}; it is the pod's port that counts, not the Service's", names(known));
    Some((Code::PortNotServed, matter, advice))
}
