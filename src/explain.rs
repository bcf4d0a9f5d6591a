//! `palisade explain`: a flow, a pod, a policy, a line of a listing, from manifests or a cluster.

mod flow;
mod node;
mod origin;
mod pod;
mod policy;
mod rule;

use std::collections::BTreeMap;
use std::process::ExitCode;

use palisade_policy::input::NamespacedName;

use crate::cli::Explain;
use crate::output::Failure;
use crate::trace::request::unknown;

/// Explains.
pub(crate) fn run(explain: &Explain) -> Result<ExitCode, Failure> {
    match explain {
        Explain::Flow(arguments) => flow::run(arguments),
        Explain::Pod(arguments) => pod::run(arguments).map(|()| ExitCode::SUCCESS),
        Explain::Policy(arguments) => policy::run(arguments).map(|()| ExitCode::SUCCESS),
        Explain::Rule(arguments) => rule::run(arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// The object of this name, as `namespace/name` or, with `-n`, as `name`.
fn named<'a, T>(
    kind: &str,
    text: &str,
    namespace: Option<&str>,
    all: &'a BTreeMap<NamespacedName, T>,
) -> Result<&'a T, Failure> {
    let key = match (text.split_once('/'), namespace) {
        (Some((namespace, name)), _) => NamespacedName::new(namespace, name),
        (None, Some(namespace)) => NamespacedName::new(namespace, text),
        (None, None) => NamespacedName::new("default", text),
    };
    all.get(&key).ok_or_else(|| Failure::new(unknown(kind, &key, all.keys().map(ToString::to_string))))
}
