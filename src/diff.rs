//! `palisade diff`: what a change of manifests opens and closes.

mod git;
mod print;

use std::process::ExitCode;

use palisade_analysis::diff::{Scope, diff};
use palisade_policy::flow::NodeFacts;
use palisade_policy::index::set_aside;
use palisade_policy::input::State;
use palisade_watch::Selection;

use crate::cli::{DiffArgs, DiffOutput};
use crate::output::{self, Failure};
use crate::source;

/// The exit status if something changes, as for `diff` and `kubectl diff`.
const DIFFERS: u8 = 1;

/// Compares and prints.
pub(crate) fn run(arguments: &DiffArgs) -> Result<ExitCode, Failure> {
    let (before, after) = sides(arguments)?;
    let facts = NodeFacts { allow_egress_to_own_node: arguments.allow_egress_to_own_node, ..NodeFacts::default() };
    let found = diff(&before, &after, &facts, Scope::All);
    output::block(&match arguments.output {
        DiffOutput::Text => print::text(&found),
        DiffOutput::Json => format!("{}\n", print::json(&found)),
        DiffOutput::Markdown => print::markdown(&found),
    })?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

/// The objects before and after.
fn sides(arguments: &DiffArgs) -> Result<(State, State), Failure> {
    let DiffArgs { paths, recursive, live, git, kubeconfig, context, .. } = arguments;
    let select = |path: &std::path::Path| Selection {
        paths: vec![path.to_owned()],
        recursive: *recursive,
        ..Selection::default()
    };
    let read = |path: &std::path::Path| {
        source::of_manifests(palisade_watch::read_manifests_and_workloads(select(path)))
            .map(|(state, _)| within_budget(state))
    };
    match (paths.as_slice(), git) {
        ([one], None) if *live => {
            let before = source::cluster(kubeconfig.as_deref(), context.as_deref())?.state;
            let after = applied(&before, &read(one)?);
            Ok((within_budget(before), within_budget(after)))
        }
        ([path], Some(revision)) => {
            let earlier = git::checkout(revision, path)?;
            Ok((read(&earlier.path)?, read(path)?))
        }
        ([before, after], None) if !*live => Ok((read(before)?, read(after)?)),
        _ => Err(Failure::usage("name two paths, or one with --live or --git REV").hint(
            "palisade diff before/ after/; palisade diff --git main manifests/; palisade diff --live manifests/",
        )),
    }
}

/// Like an agent with the default budget.
fn within_budget(mut state: State) -> State {
    for (policy, why) in set_aside(&mut state) {
        output::warn(&format!("policy {policy} {why}"));
    }
    state
}

/// The cluster after its policies and the labels of its namespaces were applied from manifests. Pods stay: their
/// controllers make them.
fn applied(cluster: &State, manifests: &State) -> State {
    let mut after = cluster.clone();
    after.policies.extend(manifests.policies.iter().map(|(key, policy)| (key.clone(), policy.clone())));
    let labelled = manifests.namespaces.iter().filter(|(name, namespace)| {
        // A namespace that is only mentioned has no labels but its name.
        namespace.labels.len() > 1 || !cluster.namespaces.contains_key(*name)
    });
    after.namespaces.extend(labelled.map(|(name, namespace)| (name.clone(), namespace.clone())));
    after
}
