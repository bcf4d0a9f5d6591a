//! Egress isolation without DNS.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use palisade_policy::input::{
    ContainerPort, IpBlock, LabelSelector, Labels, METADATA_NAME, Namespace, NamespaceScope, NamespacedName,
    ObjectName, Operator, Peer, Peers, Pod, Policy, Port, Ports, Protocol, Rule,
};

use super::code::Code;
use super::remark::{Edit, Remark};
use crate::cover::is_selector_within;
use crate::names::pods;
use crate::untracked::is_dns_cache;
use crate::view::{View, peer_selector};

/// The usual namespace of a cluster's DNS, and the label of its pods.
const USUAL_NAMESPACE: &str = "kube-system";
const USUAL_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// The field of egress rules.
const FIELD: &str = "spec.egress";
/// The ports of DNS, as a rule has them.
const PORTS_OF_DNS: &str = r#""ports":[{"protocol":"UDP","port":53},{"protocol":"TCP","port":53}]"#;
/// The namespaces in which distributions run DNS.
const DNS_NAMESPACES: [&str; 2] = [USUAL_NAMESPACE, "openshift-dns"];
/// 53, and the port of some clusters' DNS pods behind the Service.
const PORTS: [u16; 2] = [53, 5353];
/// A range with more ports than this was not written with DNS in mind.
const DELIBERATE: u16 = 1024;

/// Checks every policy with egress rules. One without any is meant to allow nothing.
pub(crate) fn check(view: &View<'_>) -> Vec<Remark> {
    let servers = Servers::known(view);
    let mut remarks = Vec::new();
    let mut namespaces: BTreeMap<&str, Vec<&Policy>> = BTreeMap::new();
    for policy in view.state.policies.values().filter(|policy| policy.isolates.egress) {
        namespaces.entry(&policy.key.namespace).or_default().push(policy);
    }
    for policies in namespaces.into_values() {
        let allows_dns = |policy: &Policy| policy.egress.iter().any(|rule| servers.are_allowed(view, policy, rule));
        let forgetful = Forgetful::of(view, &policies, allows_dns);
        remarks.extend(forgetful.policies.iter().filter_map(|policy| {
            let who = forgetful.who(view, policy)?;
            let matter =
                format!("{who} may open some flows, but no egress rule allows DNS: names do not resolve for them");
            let rules = servers.rules();
            let advice = format!("add to spec.egress: {}", rules.join(" and "));
            Some(Remark::new(Code::NoDns, ObjectName::policy(&policy.key), FIELD, matter, advice).remedy(append(rules)))
        }));
        let Some(cache) = &servers.cache else { continue };
        let forgetful =
            Forgetful::of(view, &policies, |policy| policy.egress.iter().any(|rule| cache.is_allowed(rule)));
        let with_dns = forgetful.policies.iter().filter(|policy| allows_dns(policy));
        remarks.extend(with_dns.filter_map(|policy| {
            let who = forgetful.who(view, policy)?;
            let matter = format!(
                "{who} may query DNS, but not {}: it is on the host's network, where only an ipBlock matches",
                cache.pod.key
            );
            let advice = format!("add to spec.egress: {}, and run the agents with --untracked judge", Cache::rule());
            let remedy = append(vec![Cache::rule()]);
            Some(Remark::new(Code::DnsCache, ObjectName::policy(&policy.key), FIELD, matter, advice).remedy(remedy))
        }));
    }
    remarks
}

/// The policies of a namespace that allow flows but not DNS.
struct Forgetful<'a> {
    policies: Vec<&'a Policy>,
    /// The selectors of the others, and the pods that they select.
    allowing: BTreeSet<&'a LabelSelector>,
    may_ask: BTreeSet<&'a NamespacedName>,
    /// The answers of `who`, by selector.
    known: RefCell<BTreeMap<&'a LabelSelector, Option<String>>>,
}

impl<'a> Forgetful<'a> {
    /// Of policies that isolate for egress.
    fn of(view: &View<'a>, policies: &[&'a Policy], allows: impl Fn(&Policy) -> bool) -> Self {
        let mut found = Self {
            policies: Vec::new(),
            allowing: BTreeSet::new(),
            may_ask: BTreeSet::new(),
            known: RefCell::default(),
        };
        for policy in policies {
            // A policy with mistakes may have been meant to allow it.
            let is_sound = view.is_sound(&ObjectName::policy(&policy.key));
            view.count(policy.egress.len());
            if !is_sound || allows(policy) {
                if found.allowing.insert(&policy.pod_selector) {
                    let selected = view.selected(policy);
                    view.count(selected.live.len());
                    found.may_ask.extend(selected.live.iter().map(|pod| &pod.key));
                }
            } else if !policy.egress.is_empty() {
                found.policies.push(policy);
            }
        }
        found
    }

    /// The pods of a policy for which no other policy allows it.
    fn who(&self, view: &View<'_>, policy: &'a Policy) -> Option<String> {
        view.count(1);
        let mut known = self.known.borrow_mut();
        known.entry(&policy.pod_selector).or_insert_with(|| self.look_up(view, policy)).clone()
    }

    fn look_up(&self, view: &View<'_>, policy: &Policy) -> Option<String> {
        let selected = view.selected(policy);
        view.count(selected.live.len());
        if selected.live.is_empty() {
            view.count(self.allowing.len());
            if self.allowing.iter().any(|other| is_selector_within(&policy.pod_selector, other)) {
                return None;
            }
            return Some("the pods that it selects".to_owned());
        }
        let silent = selected.live.iter().copied().filter(|pod| !self.may_ask.contains(&pod.key));
        let silent: Vec<_> = silent.collect();
        (!silent.is_empty()).then(|| pods(&silent))
    }
}

fn append(rules: Vec<String>) -> impl Iterator<Item = Edit> {
    rules.into_iter().map(|item| Edit::Append { list: FIELD.to_owned(), item })
}

/// NodeLocal DNSCache.
struct Cache<'a> {
    pod: &'a Pod,
}

impl Cache<'_> {
    /// The IP at which it serves: the pods' resolver configuration names it, and no object does.
    fn block() -> IpNet {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 20, 10), 32))
    }

    fn rule() -> String {
        format!(r#"{{"to":[{{"ipBlock":{{"cidr":"{}"}}}}],{PORTS_OF_DNS}}}"#, Self::block())
    }

    /// Whether a rule has a block for DNS, which is then assumed to be the cache's.
    fn is_allowed(&self, rule: &Rule) -> bool {
        let is_block = |peer: &Peer| match peer {
            Peer::IpBlock(block) => names_dns(&rule.ports) || block.cidr.contains(&Self::block()),
            Peer::Pods { .. } | Peer::Unmatchable => false,
        };
        is_port_of(&rule.ports, self.pod)
            && match &rule.peers {
                Peers::Any => true,
                Peers::Of(list) => list.iter().any(is_block),
            }
    }
}

/// The pods that serve DNS: those that look like it, or the usual one if there are none.
struct Servers<'a> {
    pods: Vec<(Pod, Option<&'a Namespace>)>,
    usual: Namespace,
    cache: Option<Cache<'a>>,
    /// Whether servers may be missing.
    may_be_elsewhere: bool,
}

impl<'a> Servers<'a> {
    fn known(view: &View<'a>) -> Self {
        let is_labelled = |pod: &Pod| pod.labels.get(USUAL_LABEL.0).is_some_and(|found| found == USUAL_LABEL.1);
        let is_server = |pod: &&Pod| {
            let declares = view.ports(pod).iter().any(|(protocol, port)| *protocol == Protocol::Udp && *port == 53);
            pod.is_live() && (is_labelled(pod) || declares)
        };
        let found = view.state.every_pod().filter(is_server);
        // Servers that no rule can distinguish count as one.
        let mut kinds = BTreeSet::new();
        let pods: Vec<_> = found
            .filter(|pod| !pod.addresses.is_empty() || kinds.insert((&pod.key.namespace, &pod.labels, &pod.ports)))
            .map(|pod| (pod.clone(), view.state.namespaces.get(&pod.key.namespace)))
            .collect();
        let usual = view.state.namespaces.get(USUAL_NAMESPACE).cloned();
        let cache = view.state.every_pod().find(|pod| is_dns_cache(pod));
        Self {
            may_be_elsewhere: !view.is_whole() && pods.is_empty(),
            pods,
            usual: usual.unwrap_or_else(|| Namespace::new(USUAL_NAMESPACE, Labels::new())),
            cache: cache.map(|pod| Cache { pod }),
        }
    }

    /// Whether a rule lets the pods of its policy query one of the servers over UDP.
    fn are_allowed(&self, view: &View<'_>, policy: &Policy, rule: &Rule) -> bool {
        // A user who writes the port has thought of DNS, and knows the server.
        if names_dns(&rule.ports) {
            return true;
        }
        if self.pods.is_empty() {
            let mut pod = Pod::new(NamespacedName::new(USUAL_NAMESPACE, "dns"));
            pod.labels.insert(USUAL_LABEL.0.to_owned(), USUAL_LABEL.1.to_owned());
            pod.ports.push(ContainerPort { name: "dns".into(), protocol: Protocol::Udp, port: 53 });
            let may_be_unseen = self.may_be_elsewhere
                && is_port_of(&rule.ports, &pod)
                && matches!(&rule.peers, Peers::Of(list) if list.iter().any(may_mean_unseen));
            return may_be_unseen || is_server_allowed(policy, rule, &pod, Some(&self.usual));
        }
        view.count(self.pods.len());
        self.pods.iter().any(|(pod, namespace)| is_server_allowed(policy, rule, pod, *namespace))
    }

    /// A rule that leads to the servers, and one for a cache.
    fn rules(&self) -> Vec<String> {
        let server = self.pods.first().map(|(pod, _)| &pod.key.namespace);
        let to_servers = match server {
            Some(name) => format!(
                r#"{{"to":[{{"namespaceSelector":{{"matchLabels":{{"{METADATA_NAME}":"{name}"}}}}}}],{PORTS_OF_DNS}}}"#
            ),
            // The servers are unknown, so a peer could be wrong.
            None => format!("{{{PORTS_OF_DNS}}}"),
        };
        std::iter::once(to_servers).chain(self.cache.iter().map(|_| Cache::rule())).collect()
    }
}

/// Whether a peer may mean pods of a namespace outside the input that may serve DNS.
fn may_mean_unseen(peer: &Peer) -> bool {
    let Peer::Pods { namespaces: NamespaceScope::Matching(selector), .. } = peer else { return false };
    selector.requirements.iter().all(|requirement| match &requirement.operator {
        Operator::In(values) if requirement.key == METADATA_NAME => {
            DNS_NAMESPACES.iter().any(|name| values.contains(*name))
        }
        // The labels of an object outside the input are unknown.
        _ => true,
    })
}

fn is_server_allowed(policy: &Policy, rule: &Rule, pod: &Pod, namespace: Option<&Namespace>) -> bool {
    is_port_of(&rule.ports, pod)
        && match &rule.peers {
            Peers::Any => true,
            Peers::Of(list) => list.iter().any(|peer| is_server_meant(policy, peer, pod, namespace)),
        }
}

fn is_port_of(ports: &Ports, pod: &Pod) -> bool {
    match ports {
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
    }
}

fn is_server_meant(policy: &Policy, peer: &Peer, pod: &Pod, namespace: Option<&Namespace>) -> bool {
    match peer {
        Peer::Pods { .. } => peer_selector(policy, peer).is_some_and(|selector| selector.selects(pod, namespace)),
        Peer::IpBlock(block) if !pod.addresses.is_empty() => {
            let is_within = |net: &IpNet| pod.addresses.iter().any(|address| net.contains(&address));
            is_within(&block.cidr) && !block.except.iter().any(is_within)
        }
        Peer::IpBlock(block) => may_hold_a_cluster(block),
        Peer::Unmatchable => false,
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
