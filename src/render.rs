//! `palisade render`: a node's ruleset, from manifests.

use std::collections::BTreeSet;

use palisade_policy::index::Index;
use palisade_policy::input::{LegacyIsolation, State};
use palisade_ruleset::render::Options;
use palisade_ruleset::{json, text};

use crate::cli::{Objects, RenderArgs, RenderOutput, Untracked};
use crate::output::{self, Failure};
use crate::source;

/// How many nodes a note names.
const NAMES: usize = 8;

/// Prints the ruleset of a node.
pub(crate) fn run(arguments: &RenderArgs) -> Result<(), Failure> {
    let state = read(&arguments.objects)?;
    if let Some(note) = note_no_pods(&state, &arguments.node) {
        output::note(&note);
    }
    let index = Index::build(arguments.node.as_str(), &state);
    let options = Options {
        allow_egress_to_own_node: arguments.objects.allow_egress_to_own_node,
        established: arguments.established.into(),
        judge_untracked: arguments.untracked == Untracked::Judge,
        ..Options::default()
    };
    let ruleset = palisade_ruleset::render::render(index.compiled(), &options);
    match arguments.output {
        RenderOutput::Nft => output::block(&text::script(&ruleset)),
        RenderOutput::Json => output::line(&json::ruleset(&ruleset).to_string()),
    }
}

/// The note to print if no pod is on the node: its ruleset isolates nothing, and the name may be a typo.
fn note_no_pods(state: &State, node: &str) -> Option<String> {
    let nodes: BTreeSet<_> = state.every_pod().filter_map(|pod| pod.node.as_deref()).collect();
    if nodes.contains(node) {
        return None;
    }
    let mut names: Vec<_> = nodes.iter().take(NAMES).copied().collect();
    if nodes.len() > names.len() {
        names.push("…");
    }
    let others = if names.is_empty() { String::new() } else { format!("; pods are on {}", names.join(", ")) };
    Some(format!("note: no pod of the input is on node {node}, so its ruleset isolates nothing{others}"))
}

/// Reads the objects of a verb; warnings go to stderr.
pub(crate) fn read(objects: &Objects) -> Result<State, Failure> {
    let (mut state, _) = source::of_manifests(palisade_watch::read_manifests(objects.how.of(&objects.paths)))?;
    if objects.legacy_namespace_isolation {
        LegacyIsolation::honour(&mut state);
    }
    Ok(state)
}
