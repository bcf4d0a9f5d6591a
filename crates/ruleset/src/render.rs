//! The compiled policy of a node in, the ruleset out; whole, or only what changed.

mod base;
mod elements;
mod group;
mod members;
mod names;
mod objects;
mod renderer;
mod starting;

pub use base::{EGRESS_MAPS, INGRESS_MAPS, dropped_counter};
pub use renderer::{ObjectCounts, Renderer};

use std::collections::BTreeSet;

use ipnet::IpNet;
use palisade_policy::index::NodePolicy;

use crate::model::Ruleset;

/// What a ruleset depends on beside the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A pod may always reach its own node: the input hook does not judge egress.
    pub allow_egress_to_own_node: bool,
    /// Let established flows go on when policies change, as most enforcers do, instead of judging each packet anew.
    pub keep_established: bool,
    /// Judge what a foreign rule keeps from conntrack by its own addresses and ports, instead of dropping it.
    pub judge_untracked: bool,
    /// The ranges that this node gives its pods addresses from. What no known pod has of them is nobody's who may pass while
    /// an isolated pod is starting. Empty where that is not wanted, or not known.
    pub pod_ranges: BTreeSet<IpNet>,
    /// The interfaces behind which the node's pods are, as `cni0`. Empty where the node is not at hand.
    pub pod_ports: BTreeSet<String>,
}

/// The ruleset of a node, from scratch.
pub fn render(policy: &NodePolicy, options: &Options) -> Ruleset {
    let mut renderer = Renderer::new(options.clone());
    renderer.update(policy, &policy.everything());
    renderer.update_starting(policy);
    renderer.into_ruleset()
}
