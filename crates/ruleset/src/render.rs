//! Renders the compiled policy of a node as a ruleset; whole, or only what changed.

mod base;
mod elements;
mod group;
mod members;
mod names;
mod objects;
mod renderer;
mod starting;

pub use base::{EGRESS_MAPS, INGRESS_MAPS, dropped_counter, gates};
pub use renderer::{ObjectCounts, Renderer};

use std::collections::BTreeSet;

use ipnet::IpNet;
use palisade_policy::index::NodePolicy;

use crate::model::Ruleset;

/// What a ruleset depends on besides the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A pod may always reach its own node: the input hook does not judge egress.
    pub allow_egress_to_own_node: bool,
    /// Let established flows survive policy changes, as most enforcers do, instead of judging each packet again.
    pub keep_established: bool,
    /// Judge packets that a foreign rule keeps out of conntrack by their own addresses and ports, instead of dropping
    /// them.
    pub judge_untracked: bool,
    /// The ranges from which this node assigns pod IPs. While an isolated pod is starting, an IP in these ranges that
    /// belongs to no known pod may neither send nor receive. Empty if unwanted or unknown.
    pub pod_ranges: BTreeSet<IpNet>,
    /// The interfaces that lead to the node's pods, as `cni0`. Empty if the node is not available.
    pub pod_ports: BTreeSet<String>,
}

/// The ruleset of a node, from scratch.
pub fn render(policy: &NodePolicy, options: &Options) -> Ruleset {
    let mut renderer = Renderer::new(options.clone());
    renderer.update(policy, &policy.everything());
    renderer.into_ruleset()
}
