//! Rendering options.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// The inputs of a ruleset other than the objects.
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
    pub pod_interfaces: BTreeSet<String>,
}
