//! Renders the compiled policy of a node as a ruleset; whole, or only the changes.

mod drops;
mod elements;
mod group;
mod layout;
mod members;
mod names;
mod objects;
mod options;
mod parts;
mod renderer;
mod starting;
mod words;

pub use drops::Reason;
pub use options::{Established, Options};
pub use parts::{EGRESS_MAPS, INGRESS_MAPS, gates, pods_on_node, verdict_map};
pub use renderer::{ObjectCounts, Renderer};

use palisade_policy::index::NodePolicy;

use crate::model::Ruleset;

/// The ruleset of a node, from scratch.
pub fn render(policy: &NodePolicy, options: &Options) -> Ruleset {
    let mut renderer = Renderer::new(options.clone());
    renderer.update(policy, &policy.everything());
    renderer.into_ruleset()
}
