//! Generated clusters, flows and changes for property tests, with shrinking.
//!
//! Small clusters from small alphabets, so that selectors match, ranges touch and IPs collide often. The generator
//! makes seeds, which have a meaning in any cluster, so a failing case shrinks by removing pods, policies, rules and
//! flows one by one. A failing case prints itself as manifests and as the lines of `palisade trace --flows`, for trying
//! it by hand; proptest prints the seed that repeats it.
//!
//! Addresses are those of the lab: node *n* is `node-n`, 172.30.0.(10+n) and fd00:30::(10+n), its pods are in
//! 10.42.n.0/24 and fd42:n::/64. So the same clusters can run with real packets.

mod alphabet;
mod change;
mod cluster;
mod flow;
mod manifest;
mod policy;

use std::fmt;
use std::ops::Range;

use palisade_policy::flow::{Flow, NodeFacts};
use palisade_policy::input::{Change, State};
use proptest::prelude::*;

pub use flow::{flow_line, ports_in_use};
pub use manifest::{change as change_text, manifests, object, objects};

/// The most nodes of a generated cluster; they are `node-1` to `node-3`.
pub const MAX_NODES: u8 = 3;

/// The default number of flows of a case.
const FEW: Range<usize> = 1..40;

/// A cluster and flows in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Case {
    /// The objects.
    pub state: State,
    /// Additional facts about nodes.
    pub facts: NodeFacts,
    /// Flows between its pods, its nodes and the world.
    pub flows: Vec<Flow>,
}

/// A cluster and its events.
#[derive(Clone, PartialEq, Eq)]
pub struct History {
    /// The initial objects.
    pub start: State,
    /// The events, in order.
    pub changes: Vec<Change>,
}

/// Two or three nodes, two to four namespaces, up to twelve pods, up to seven policies and their duplicates.
pub fn arb_state() -> BoxedStrategy<State> {
    cluster::cluster().prop_map(|seed| seed.state()).boxed()
}

/// The node facts that a user may add; usually none.
pub fn arb_facts() -> BoxedStrategy<NodeFacts> {
    cluster::facts().boxed()
}

/// Flows in this cluster: among pods, to and from the edges of every CIDR in use, nodes, and the outside, on and next
/// to every port in use. A few cannot be judged (no shared family).
pub fn arb_flows(state: &State) -> BoxedStrategy<Vec<Flow>> {
    let state = state.clone();
    flow::flows(FEW).prop_map(move |seeds| flow::resolve(&seeds, &state)).boxed()
}

/// Events for this cluster, single ones and whole lists.
pub fn arb_changes(state: &State) -> BoxedStrategy<Vec<Change>> {
    let state = state.clone();
    change::changes().prop_map(move |seeds| change::resolve(&seeds, &state)).boxed()
}

/// A cluster with flows. Prefer it to [`arb_state`] and [`arb_flows`] in sequence: it shrinks as one.
pub fn arb_case() -> BoxedStrategy<Case> {
    arb_case_with(FEW)
}

/// The same with this many flows.
pub fn arb_case_with(flows: Range<usize>) -> BoxedStrategy<Case> {
    let parts = (cluster::cluster(), cluster::facts(), flow::flows(flows));
    parts
        .prop_map(|(cluster, facts, seeds)| {
            let state = cluster.state();
            let flows = flow::resolve(&seeds, &state);
            Case { state, facts, flows }
        })
        .boxed()
}

/// A cluster with events. Shrinks as one.
pub fn arb_history() -> BoxedStrategy<History> {
    (cluster::cluster(), change::changes())
        .prop_map(|(cluster, seeds)| {
            let start = cluster.state();
            let changes = change::resolve(&seeds, &start);
            History { start, changes }
        })
        .boxed()
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}# {:?}", manifests(&self.state), self.facts)?;
        self.flows.iter().try_for_each(|flow| writeln!(f, "# {}", flow_line(flow)))
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", manifests(&self.start))?;
        self.changes.iter().try_for_each(|change| f.write_str(&manifest::change(change)))
    }
}
