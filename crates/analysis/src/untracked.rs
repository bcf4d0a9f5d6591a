//! Flows whose packets may be untracked: NodeLocal DNSCache keeps its own out of conntrack.

use std::net::IpAddr;

use palisade_policy::flow::{Endpoint, Flow, Judgement, Reason, Transport, Verdict};
use palisade_policy::input::{Pod, State};
use palisade_policy::reference::{Considered, End};

/// The label of its pods.
const LABEL: (&str, &str) = ("k8s-app", "node-local-dns");

/// What the verdict on such a flow leaves open.
pub const NOTE: &str = "if its packets are untracked (NodeLocal DNSCache does that), the agent drops them unless it runs with --untracked judge";

/// Whether a pod is NodeLocal DNSCache.
pub fn is_dns_cache(pod: &Pod) -> bool {
    pod.host_network && pod.labels.get(LABEL.0).is_some_and(|found| found == LABEL.1)
}

/// Whether the packets of an allowed flow may be untracked, and then be dropped: one end is a DNS cache on its node, and
/// the other end is isolated.
pub fn may_be_dropped(state: &State, flow: &Flow, considered: &Considered<'_>, judgement: &Judgement) -> bool {
    let reasons = [&judgement.egress.reason, &judgement.ingress.reason];
    let is_isolated = reasons.iter().any(|reason| matches!(reason, Reason::Rule { .. }));
    let ends = [(&flow.from, &considered.ends.from), (&flow.to, &considered.ends.to)];
    judgement.verdict == Verdict::Allow
        && is_isolated
        && ends.into_iter().any(|(endpoint, end)| is_cache(state, endpoint, end, flow.transport))
}

/// Whether this end is a DNS cache: by its pod, or by an IP such as 169.254.20.10, which no object has.
fn is_cache(state: &State, endpoint: &Endpoint, end: &End<'_>, transport: Transport) -> bool {
    match endpoint {
        Endpoint::Pod(key) => state.pod(key).is_some_and(is_dns_cache),
        Endpoint::Address(address) => is_of_dns(transport) && end.pods.is_empty() && is_caches(state, *address),
        Endpoint::Node(_) => false,
    }
}

fn is_of_dns(transport: Transport) -> bool {
    matches!(transport, Transport::Port(_, 53))
}

/// Whether a DNS cache may have this IP: it is link-local, or that of a cache's node.
fn is_caches(state: &State, address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    is_link_local || state.every_pod().any(|pod| is_dns_cache(pod) && pod.addresses.contains(address))
}
