//! Egress isolation without DNS.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use palisade_policy::input::{
    ContainerPort, Direction, IpBlock, Labels, Namespace, NamespacedName, ObjectName, Peer, Peers, Pod, Policy, Port,
    Ports, Protocol, Rule,
};

use super::code::Code;
use super::remark::Remark;
use crate::cover::is_selector_within;
use crate::names::pods;
use crate::view::{View, peer_selector};

/// Where a cluster's DNS usually runs, and the label of its pods.
const USUAL_NAMESPACE: &str = "kube-system";
const USUAL_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// 53, and what some clusters' DNS pods serve behind the Service.
const PORTS: [u16; 2] = [53, 5353];
/// A range with more ports than this was not written with DNS in mind.
const DELIBERATE: u16 = 1024;

/// Checks every policy with egress rules. One without any is meant to allow nothing.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let servers = Servers::known(view);
    let with_rules = view.policies().filter(|policy| policy.isolates.egress && !policy.egress.is_empty());
    with_rules.filter_map(|policy| forgotten(view, &servers, policy)).collect()
}

fn forgotten(view: &View<'_>, servers: &Servers<'_>, policy: &Policy) -> Option<Remark> {
    let selected = view.selected(policy).live;
    let all = view.state.policies_of(&policy.key.namespace);
    let isolating: Vec<_> = all.filter(|other| other.isolates.in_direction(Direction::Egress)).collect();
    // A policy with mistakes may have been meant to allow it.
    let allows = |other: &Policy| {
        !view.is_sound(&ObjectName::policy(&other.key))
            || other.egress.iter().any(|rule| servers.are_allowed(other, rule))
    };
    let who = if selected.is_empty() {
        let covers = |other: &&&Policy| is_selector_within(&policy.pod_selector, &other.pod_selector);
        if isolating.iter().filter(covers).any(|other| allows(other)) {
            return None;
        }
        "the pods that it selects".to_owned()
    } else {
        let may_ask =
            |pod: &Pod| isolating.iter().any(|other| other.pod_selector.selects(&pod.labels) && allows(other));
        let silent: Vec<_> = selected.into_iter().filter(|pod| !may_ask(pod)).collect();
        if silent.is_empty() {
            return None;
        }
        pods(&silent)
    };
    let matter = format!("{who} may open some flows, but no egress rule allows DNS: names do not resolve for them");
    let advice =
        "allow UDP and TCP 53, as to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]";
    Some(Remark::new(Code::NoDns, ObjectName::policy(&policy.key), "spec.egress", matter, advice))
}

/// The pods that serve DNS: those that look like it, or the usual one if there are none.
struct Servers<'a> {
    pods: Vec<(Pod, Option<&'a Namespace>)>,
    usual: Namespace,
}

impl<'a> Servers<'a> {
    fn known(view: &View<'a>) -> Self {
        let is_server = |pod: &&Pod| {
            let is_labelled = pod.labels.get(USUAL_LABEL.0).is_some_and(|value| value == USUAL_LABEL.1);
            let declares = view.ports(pod).iter().any(|(protocol, port)| *protocol == Protocol::Udp && *port == 53);
            pod.is_live() && (is_labelled || declares)
        };
        let found = view.state.pods.values().filter(is_server);
        let pods: Vec<_> = found.map(|pod| (pod.clone(), view.state.namespaces.get(&pod.key.namespace))).collect();
        let usual = view.state.namespaces.get(USUAL_NAMESPACE).cloned();
        Self { pods, usual: usual.unwrap_or_else(|| Namespace::new(USUAL_NAMESPACE, Labels::new())) }
    }

    /// Whether a rule lets the pods of its policy query one of the servers over UDP.
    fn are_allowed(&self, policy: &Policy, rule: &Rule) -> bool {
        // A user who writes the port has thought of DNS, and knows the server.
        if names_dns(&rule.ports) {
            return true;
        }
        if self.pods.is_empty() {
            let mut pod = Pod::new(NamespacedName::new(USUAL_NAMESPACE, "dns"));
            pod.labels.insert(USUAL_LABEL.0.to_owned(), USUAL_LABEL.1.to_owned());
            pod.ports.push(ContainerPort { name: "dns".into(), protocol: Protocol::Udp, port: 53 });
            return is_server_allowed(policy, rule, &pod, Some(&self.usual));
        }
        self.pods.iter().any(|(pod, namespace)| is_server_allowed(policy, rule, pod, *namespace))
    }
}

fn is_server_allowed(policy: &Policy, rule: &Rule, pod: &Pod, namespace: Option<&Namespace>) -> bool {
    let is_port = match &rule.ports {
        Ports::Any => true,
        Ports::Of(list) => list.iter().any(|port| match port {
            Port::All(protocol) => *protocol == Protocol::Udp,
            Port::Range { protocol, first, last } => {
                *protocol == Protocol::Udp && PORTS.iter().any(|port| (first..=last).contains(&port))
            }
            Port::Named { protocol, name } => {
                *protocol == Protocol::Udp
                    && pod.ports.iter().any(|port| port.protocol == *protocol && port.name == *name)
            }
            Port::Unmatchable => false,
        }),
    };
    let is_meant = |peer: &Peer| match peer {
        Peer::Pods { .. } => peer_selector(policy, peer).is_some_and(|selector| selector.selects(pod, namespace)),
        Peer::IpBlock(block) if !pod.addresses.is_empty() => {
            let is_within = |net: &IpNet| pod.addresses.iter().any(|address| net.contains(&address));
            is_within(&block.cidr) && !block.except.iter().any(is_within)
        }
        Peer::IpBlock(block) => may_hold_a_cluster(block),
        Peer::Unmatchable => false,
    };
    is_port
        && match &rule.peers {
            Peers::Any => true,
            Peers::Of(list) => list.iter().any(is_meant),
        }
}

fn names_dns(ports: &Ports) -> bool {
    let Ports::Of(list) = ports else { return false };
    list.iter().any(|port| match port {
        Port::Range { protocol: Protocol::Udp, first, last } => {
            last - first < DELIBERATE && PORTS.iter().any(|port| (first..=last).contains(&port))
        }
        Port::Named { protocol: Protocol::Udp, name } => name.starts_with("dns") || &**name == "domain",
        _ => false,
    })
}

/// Whether a block is large enough for a cluster's pods, and does not exclude all private ranges.
fn may_hold_a_cluster(block: &IpBlock) -> bool {
    let private = [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)),
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)),
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
    ];
    let is_large = block.cidr.max_prefix_len() - block.cidr.prefix_len() >= 8;
    let holds = |range: &IpNet| {
        let overlaps = block.cidr.contains(range) || range.contains(&block.cidr);
        overlaps && !block.except.iter().any(|except| except.contains(range))
    };
    is_large && private.iter().any(holds)
}
