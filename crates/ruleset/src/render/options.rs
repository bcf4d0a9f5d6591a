//! Rendering options.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// The inputs of a ruleset other than the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A pod may always reach its own node: the input hook does not judge egress.
    pub allow_egress_to_own_node: bool,
    /// How packets of flows are judged that were allowed before.
    pub established: Established,
    /// Judge packets that a foreign rule keeps out of conntrack by their own addresses and ports, instead of dropping
    /// them.
    pub judge_untracked: bool,
    /// The ranges from which this node assigns pod IPs. While an isolated pod is starting, an IP in these ranges that
    /// belongs to no known pod may neither send nor receive. Empty if unwanted or unknown.
    pub pod_ranges: BTreeSet<IpNet>,
    /// The interfaces that lead to the node's pods, as `cni0`. Empty if the node is not available.
    pub pod_interfaces: BTreeSet<String>,
}

/// How packets of flows are judged that were allowed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// By all rules.
    #[default]
    Judge,
    /// By the verdict cache ([`crate::cache`]): by all rules after each change that may deny something.
    Remember,
    /// They pass until the flow ends, whatever changes, as with most enforcers.
    Keep,
}

impl Options {
    /// Whether the table has a verdict cache.
    pub fn has_verdict_cache(&self) -> bool {
        self.established == Established::Remember
    }
}
