//! `palisade diff`: what a change of manifests opens and closes.

mod git;
mod page;
mod picture;
mod print;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use palisade_analysis::diff::{Diff, End, Scope, diff};
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
    let facts = source::facts(arguments.allow_egress_to_own_node, &[]);
    let comparing = output::Progress::of("comparing the flows");
    let mut found = diff(&before, &after, &facts, Scope::All);
    if let Some(namespace) = &arguments.of.namespace {
        keep(&mut found, namespace);
    }
    drop(comparing);
    output::block(&match arguments.output {
        DiffOutput::Text => print::text(&found),
        DiffOutput::Json => format!("{}\n", print::json(&found)),
        DiffOutput::Yaml => output::yaml(&print::json(&found)),
        DiffOutput::Markdown => print::markdown(&found),
        DiffOutput::Html => page::page(&found, &title(arguments)),
    })?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

/// What is compared.
fn title(arguments: &DiffArgs) -> String {
    let DiffArgs { paths, live, apply, git, .. } = arguments;
    let named = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let mut sides = named(paths);
    if *live {
        sides.insert(0, "cluster".to_owned());
    }
    if let Some(revision) = git {
        sides.insert(0, revision.clone());
    }
    if !apply.is_empty() {
        sides.push(format!("with {}", named(apply).join(", ")));
    }
    sides.join(" → ")
}

/// Leaves only what has an end in this namespace.
fn keep(found: &mut Diff, namespace: &str) {
    let is_in = |name: &str| name.split_once('/').is_some_and(|(own, _)| own == namespace);
    let is_end = |end: &End| matches!(end, End::Workload(name, _) if is_in(name));
    found.changes.retain(|change| is_end(&change.from) || is_end(&change.to));
    found.added.retain(|single| is_in(&single.workload));
    found.removed.retain(|single| is_in(&single.workload));
}

/// The objects before and after.
fn sides(arguments: &DiffArgs) -> Result<(State, State), Failure> {
    let DiffArgs { paths, recursive, live, apply, git, kubeconfig, context, .. } = arguments;
    let read_all = |paths: Vec<PathBuf>| {
        let selection =
            Selection { paths, recursive: *recursive, replace: true, namespace: arguments.of.namespace.clone() };
        source::of_manifests(palisade_watch::read_manifests_and_workloads(selection))
            .map(|(state, _)| source::within_budget(state))
    };
    let read = |path: &Path| read_all(vec![path.to_owned()]);
    match (paths.as_slice(), git) {
        ([base], None) if !apply.is_empty() => {
            let after = std::iter::once(base).chain(apply).cloned().collect();
            Ok((read(base)?, read_all(after)?))
        }
        ([one], None) if *live => {
            let before = source::cluster(kubeconfig.as_deref(), context.as_deref())?.state;
            let after = applied(&before, &read(one)?);
            Ok((source::within_budget(before), source::within_budget(after)))
        }
        ([path], Some(revision)) => {
            let earlier = git::checkout(revision, path)?;
            Ok((read(&earlier.path)?, read(path)?))
        }
        ([before, after], None) if !*live && apply.is_empty() => Ok((read(before)?, read(after)?)),
        _ => Err(Failure::usage("name two paths, or one with --apply PATH, --live or --git REV").hint(
            "palisade diff before/ after/; palisade diff --git main manifests/; palisade diff --live manifests/",
        )),
    }
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
