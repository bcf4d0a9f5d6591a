//! How far a rule matched a flow, and the one change that would make it match.

use palisade_policy::flow::Transport;
use palisade_policy::input::{
    Direction, IpBlock, LabelSelector, Labels, NamespaceScope, Operator, Peer, Pod, Port, Requirement,
};
use palisade_policy::reference::{ConsideredRule, PeerMatch, Selection, Side};

use crate::names::list;
use crate::near::{Miss, Term};

/// How many peers or ports of a rule are spelled out.
const TERMS: usize = 3;

/// How far a rule matched.
pub fn rule(side: &Side<'_>, rule: &ConsideredRule<'_>) -> String {
    match (rule.is_peer_match(), rule.is_port_match()) {
        (true, true) => "allows it".to_owned(),
        (true, false) => format!("the peer matches, the port does not: it allows {}", ports(rule)),
        (false, true) => format!("the port matches, the peer does not: {}", peers(side, rule)),
        (false, false) => format!("neither matches: it allows {}; {}", ports(rule), peers(side, rule)),
    }
}

/// What keeps the rule from matching.
pub fn miss(miss: &Miss<'_>) -> String {
    let Miss { side, policy, index, term } = miss;
    let found = side.policies().find(|considered| considered.policy.key == policy.key);
    let considered = found.and_then(|policy| policy.rules().nth(*index));
    let place = format!("{} {}[{index}]", policy.key, side.direction);
    match (term, considered) {
        (Term::Subject(requirement), _) => {
            let (pod, has) = end(side.subject.the_pod(), requirement);
            format!(
                "{place} matches, but the policy's podSelector {requirement} does not select {pod}, which has {has}"
            )
        }
        (Term::NewRule, _) | (_, None) => format!("no rule of {} comes near", policy.key),
        (_, Some(considered)) => format!("{place}: {}", rule(side, &considered)),
    }
}

/// The change to the policy that lets the flow pass in this direction.
pub fn change(miss: &Miss<'_>) -> String {
    let Miss { side, policy, index, term } = miss;
    let (direction, key) = (side.direction, &policy.key);
    let field = format!("spec.{direction}[{index}]");
    let list = match direction {
        Direction::Ingress => format!("{field}.from"),
        Direction::Egress => format!("{field}.to"),
    };
    let pod = side.peer.the_pod();
    match term {
        Term::Ports => match miss.port() {
            Some(new) => format!("add {} to {field}.ports of policy {key}", port(&new)),
            None => format!("remove {field}.ports of policy {key}: only a rule without ports allows ICMP"),
        },
        Term::Except(position, except) => {
            format!("remove {except} from {list}[{position}].ipBlock.except of policy {key}")
        }
        Term::PodLabel(position, requirement) => {
            let (name, _) = end(pod, requirement);
            either(
                &name,
                requirement,
                pod.map(|pod| &pod.labels),
                &format!("{list}[{position}].podSelector of policy {key}"),
            )
        }
        Term::NamespaceLabel(position, requirement) => {
            let namespace = pod.and_then(|pod| side.namespace_of(pod));
            let name = namespace.map_or_else(String::new, |namespace| format!("namespace {}", namespace.name));
            let labels = namespace.map(|namespace| &namespace.labels);
            either(&name, requirement, labels, &format!("{list}[{position}].namespaceSelector of policy {key}"))
        }
        Term::OtherNamespace(position) => {
            let namespace = pod.map_or("", |pod| &*pod.key.namespace);
            format!("give {list}[{position}] of policy {key} a namespaceSelector that matches namespace {namespace}")
        }
        Term::Subject(requirement) => {
            let subject = side.subject.the_pod();
            let (name, _) = end(subject, requirement);
            either(&name, requirement, subject.map(|pod| &pod.labels), &format!("spec.podSelector of policy {key}"))
        }
        Term::Address => {
            let address = side.peer.address.map_or_else(String::new, |address| address.to_string());
            format!("add an ipBlock with {address} to {list} of policy {key}")
        }
        Term::NewRule => {
            let peer = miss.new_peer(&key.namespace).map_or_else(String::new, |peer| of_peer(&peer));
            let port = miss.port().map_or_else(String::new, |new| format!(" and {}", port(&new)));
            format!("add a rule with {peer}{port} to spec.{direction} of policy {key}")
        }
    }
}

/// Two ways to meet a requirement: by a label of the object, or by another selector.
fn either(object: &str, requirement: &Requirement, labels: Option<&Labels>, selector: &str) -> String {
    let key = &requirement.key;
    let has = has(labels, requirement);
    let label = match &requirement.operator {
        Operator::In(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("{key}={value}")).collect();
            format!("label {object} {}", values.join(" or "))
        }
        Operator::Exists => format!("give {object} the label {key}"),
        Operator::NotIn(_) | Operator::DoesNotExist => format!("take {has} from {object}"),
    };
    format!("{label}, or let {selector} match {has}")
}

/// A pod's name, and what it has instead of what a requirement wants.
fn end(pod: Option<&Pod>, requirement: &Requirement) -> (String, String) {
    let name = pod.map_or_else(String::new, |pod| format!("pod {}", pod.key));
    (name, has(pod.map(|pod| &pod.labels), requirement))
}

/// The label that a requirement is about: `app=web`, or `no label app`.
fn has(labels: Option<&Labels>, requirement: &Requirement) -> String {
    let key = &requirement.key;
    labels
        .and_then(|labels| labels.get(key))
        .map_or_else(|| format!("no label {key}"), |value| format!("{key}={value}"))
}

fn ports(rule: &ConsideredRule<'_>) -> String {
    let ports: Vec<_> = rule.ports().map(|(one, _)| port(one)).collect();
    if ports.is_empty() { "every port".to_owned() } else { list(ports, TERMS, "and") }
}

/// A port as a rule has it.
pub(crate) fn port(port: &Port) -> String {
    match port {
        Port::All(protocol) => format!("every {protocol} port"),
        Port::Range { protocol, first, last } if first == last => format!("{protocol} {first}"),
        Port::Range { protocol, first, last } => format!("{protocol} {first}-{last}"),
        Port::Named { protocol, name } => format!("{protocol} {name}"),
        Port::Unmatchable => "a port that cannot be enforced".to_owned(),
    }
}

/// Why peers do not match.
fn peers(side: &Side<'_>, rule: &ConsideredRule<'_>) -> String {
    let all: Vec<_> = rule.peers().map(|(one, found)| peer(side, one, found)).collect();
    if all.is_empty() { "it allows every peer".to_owned() } else { list(all, TERMS, "and") }
}

fn peer(side: &Side<'_>, term: &Peer, found: PeerMatch<'_>) -> String {
    let wanted = of_peer(term);
    let pod = side.peer.the_pod();
    let name = || pod.map_or_else(|| "it".to_owned(), |pod| pod.key.to_string());
    match found {
        PeerMatch::Matches => format!("{wanted} matches"),
        PeerMatch::NotAPod => format!("{wanted} means pods only"),
        PeerMatch::DuplicateIp => format!("{wanted} does not match an IP that several pods have"),
        PeerMatch::OtherNamespace => {
            let namespace = pod.map_or("another one", |pod| &*pod.key.namespace);
            format!("{wanted} means its own namespace, and {} is in {namespace}", name())
        }
        PeerMatch::NamespaceUnseen => format!("{wanted} needs the labels of a namespace that was not read"),
        PeerMatch::Namespace(selection) => {
            let labels = pod.and_then(|pod| side.namespace_of(pod)).map(|namespace| &namespace.labels);
            format!(
                "{wanted} does not match namespace {}, which has {}",
                pod.map_or("", |pod| &*pod.key.namespace),
                unmet(selection, labels)
            )
        }
        PeerMatch::Pod(selection) => {
            format!("{wanted} does not match {}, which has {}", name(), unmet(selection, pod.map(|pod| &pod.labels)))
        }
        PeerMatch::NoAddress => format!("{wanted} is not judged, since its IP is not known"),
        PeerMatch::OutsideBlock => {
            let address = side.peer.address.map_or_else(String::new, |address| address.to_string());
            format!("{wanted} does not contain {address}")
        }
        PeerMatch::Excepted(except) => format!("{wanted} excepts {except}"),
        PeerMatch::Unenforceable => "a peer that cannot be enforced".to_owned(),
    }
}

fn unmet(selection: Selection<'_>, labels: Option<&Labels>) -> String {
    match selection {
        Selection::No(requirement) | Selection::Unknown { requirement, .. } => has(labels, requirement),
        Selection::Yes => String::new(),
    }
}

/// A peer as a rule has it, on one line.
pub(crate) fn of_peer(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces: NamespaceScope::Own, pods } => format!("podSelector {pods}"),
        Peer::Pods { namespaces: NamespaceScope::Matching(selector), pods } => {
            let pods =
                if *pods == LabelSelector::everything() { String::new() } else { format!(" podSelector {pods}") };
            format!("namespaceSelector {selector}{pods}")
        }
        Peer::IpBlock(IpBlock { cidr, .. }) => format!("ipBlock {cidr}"),
        Peer::Unmatchable => "a peer that cannot be enforced".to_owned(),
    }
}

/// The protocol and port of a flow: `TCP 80`, `ICMP`.
pub fn transport(transport: Transport) -> String {
    match transport {
        Transport::Port(protocol, port) => format!("{protocol} {port}"),
        Transport::Portless => "ICMP".to_owned(),
    }
}
