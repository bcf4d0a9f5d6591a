//! Ports that no destination has.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use palisade_policy::input::{
    ContainerPort, Direction, IpBlock, ObjectName, Peer, Peers, Pod, Policy, Port, Ports, Protocol, Rule,
};
use palisade_policy::nearest;

use super::code::Code;
use super::remark::{Edit, Remark};
use crate::names::names;
use crate::view::{PortsOf, Selected, View, rules};

/// The port of DNS. A rule that allows it is right even if the cluster's DNS declares only one of its protocols.
const DNS: u16 = 53;

/// Checks every port of every rule.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let pods = Addressed::of(view);
    for policy in &view.policies {
        for (direction, field, rule) in rules(policy) {
            let Ports::Of(ports) = &rule.ports else { continue };
            let destinations = Destinations::of(view, &pods, policy, direction, rule);
            let known = destinations.ports(view);
            for (index, port) in ports.iter().enumerate() {
                let port_field = format!("{field}.ports[{index}]");
                let found = match port {
                    Port::Named { protocol, name } => named(&destinations, &known, *protocol, name),
                    Port::Range { protocol, first, last } => numbered(&destinations, &known, *protocol, *first, *last),
                    Port::All(_) | Port::Unmatchable => None,
                };
                remarks.extend(found.map(|Found { code, matter, advice, set }| {
                    let remedy = set.map(|(key, value)| Edit::Set {
                        field: format!("{port_field}.{key}"),
                        value: format!("\"{value}\""),
                    });
                    let field = format!("{port_field}.port");
                    Remark::new(code, ObjectName::policy(&policy.key), field, matter, advice).remedy(remedy)
                }));
            }
        }
    }
    remarks
}

/// The live pods by IP.
struct Addressed<'a> {
    by_address: Vec<(IpAddr, &'a Pod)>,
    /// Those without an IP, which may get any.
    others: Selected<'a>,
}

impl<'a> Addressed<'a> {
    fn of(view: &View<'a>) -> Self {
        let live = || view.state.every_pod().filter(|pod| pod.is_live());
        let mut by_address: Vec<_> =
            live().flat_map(|pod| pod.addresses.iter().map(move |address| (address, pod))).collect();
        by_address.sort_unstable_by_key(|(address, _)| *address);
        Self { by_address, others: live().filter(|pod| pod.addresses.is_empty()).collect() }
    }

    /// The pods with an IP in a block.
    fn within<'s>(&'s self, block: &'s IpBlock) -> impl Iterator<Item = &'a Pod> + use<'a, 's> {
        let start = self.by_address.partition_point(|(address, _)| *address < block.cidr.network());
        let there = self.by_address.iter().skip(start).take_while(|(address, _)| block.cidr.contains(address));
        let is_in = |address: &IpAddr| !block.except.iter().any(|except| except.contains(address));
        there.filter(move |(address, _)| is_in(address)).map(|(_, pod)| *pod)
    }
}

/// Whose ports a rule is about.
struct Destinations<'a> {
    /// The pods that selectors select.
    selected: Vec<Rc<Selected<'a>>>,
    /// The ports of pods in blocks, if a port name needs them.
    in_blocks: PortsOf<'a>,
    /// Whether only these pods are destinations.
    are_all: bool,
    /// Whether there are only blocks, so that port names are those of the pods in them.
    are_blocks: bool,
    /// Whether all these pods are in the input.
    are_known: bool,
}

impl<'a> Destinations<'a> {
    fn of(view: &View<'a>, pods: &Addressed<'a>, policy: &Policy, direction: Direction, rule: &Rule) -> Self {
        let none = Self {
            selected: Vec::new(),
            in_blocks: PortsOf::default(),
            are_all: false,
            are_blocks: false,
            are_known: view.is_whole(),
        };
        match (direction, &rule.peers) {
            (Direction::Ingress, _) => Self {
                selected: vec![view.selected(policy)],
                are_all: true,
                are_known: view.has_all_pods_of(&policy.key.namespace),
                ..none
            },
            (Direction::Egress, Peers::Any) => Self { selected: vec![view.everything()], ..none },
            (Direction::Egress, Peers::Of(list)) => {
                let blocks: Vec<_> = list.iter().filter_map(block).collect();
                let mut in_blocks = PortsOf::default();
                if !blocks.is_empty() && names_port(rule) {
                    in_blocks.add(pods.others.ports(view));
                    for pod in blocks.iter().flat_map(|block| pods.within(block)) {
                        view.count(1);
                        in_blocks.take(view, pod);
                    }
                }
                Self {
                    selected: list.iter().filter_map(|peer| view.peer(policy, peer)).collect(),
                    in_blocks,
                    are_all: blocks.is_empty(),
                    are_blocks: blocks.len() == list.len(),
                    are_known: list.iter().all(|peer| view.has_all_pods_of_peer(policy, peer)),
                }
            }
        }
    }

    fn ports(&self, view: &View<'a>) -> PortsOf<'a> {
        let mut ports = self.in_blocks.clone();
        for selected in &self.selected {
            let of = selected.ports(view);
            view.count(of.declared.len() + of.named.len());
            ports.add(of);
        }
        ports
    }
}

fn names_port(rule: &Rule) -> bool {
    match &rule.ports {
        Ports::Any => false,
        Ports::Of(list) => list.iter().any(|port| matches!(port, Port::Named { .. })),
    }
}

fn block(peer: &Peer) -> Option<&IpBlock> {
    match peer {
        Peer::IpBlock(block) => Some(block),
        Peer::Pods { .. } | Peer::Unmatchable => None,
    }
}

/// A mistake in a port.
struct Found {
    code: Code,
    matter: String,
    advice: String,
    /// The field of the port, and the value, that were probably meant.
    set: Option<(&'static str, String)>,
}

impl Found {
    fn new(code: Code, matter: String, advice: impl Into<String>) -> Self {
        Self { code, matter, advice: advice.into(), set: None }
    }
}

fn named(destinations: &Destinations<'_>, known: &PortsOf<'_>, protocol: Protocol, name: &str) -> Option<Found> {
    let is_same = |port_name: &str| port_name == name;
    let is_there = known.named.iter().any(|port| is_same(&port.name) && port.protocol == protocol);
    if is_there || !destinations.are_known || (!known.any && !destinations.are_blocks) {
        return None;
    }
    if destinations.are_blocks {
        let matter = format!(
            "the port {name} matches nothing: in an ipBlock only pods have named ports, and no pod of the blocks has a \
             {protocol} port of this name"
        );
        return Some(Found::new(Code::NamedPortUndefined, matter, "write the number"));
    }
    let there: BTreeSet<_> = known.named.iter().map(|port| &*port.name).collect();
    let other = known.named.iter().find(|port| is_same(&port.name)).map(|port| port.protocol);
    let meant = nearest(name, there.iter().copied()).filter(|_| other.is_none());
    let advice = match (other, meant) {
        (Some(other), _) => format!("it is a {other} port: add protocol: {other}"),
        (None, Some(meant)) => format!("did you mean {meant}?"),
        (None, None) if there.is_empty() => {
            "no destination pod names its ports: write the number, or name the container's port".to_owned()
        }
        (None, None) => format!("the names there are {}", names(there)),
    };
    let is_meant = |port: &&&ContainerPort| Some(&*port.name) == meant && port.protocol == protocol;
    let set = match other {
        Some(other) => Some(("protocol", other.to_string())),
        None => known.named.iter().find(is_meant).map(|port| ("port", port.name.to_string())),
    };
    let matter = format!("no destination pod has a {protocol} port named {name}, so it matches nothing");
    Some(Found { set, ..Found::new(Code::NamedPortUndefined, matter, advice) })
}

/// Containers need not declare their ports, so only pods that declare some are judged.
fn numbered(
    destinations: &Destinations<'_>,
    known: &PortsOf<'_>,
    protocol: Protocol,
    first: u16,
    last: u16,
) -> Option<Found> {
    let can_judge = destinations.are_all && destinations.are_known && known.any && !known.any_silent;
    let is_served = || first <= last && known.declared.range((protocol, first)..=(protocol, last)).next().is_some();
    let is_dns = (first, last) == (DNS, DNS)
        && [Protocol::Udp, Protocol::Tcp].iter().any(|other| known.declared.contains(&(*other, DNS)));
    if !can_judge || is_served() || is_dns {
        return None;
    }
    let there: BTreeSet<_> = known.declared.iter().map(|(protocol, port)| format!("{protocol} {port}")).collect();
    let port = if first == last { format!("port {first}") } else { format!("port from {first} to {last}") };
    let matter = format!("no destination pod serves {protocol} {port}");
    let advice = format!("they declare {}; it is the pod's port that counts, not the Service's", names(there));
    Some(Found::new(Code::PortNotServed, matter, advice))
}
