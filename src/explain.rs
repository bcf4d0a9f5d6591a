//! `palisade explain`: a flow, a pod, a policy, from manifests or a cluster.

mod flow;
mod node;
mod pod;
mod policy;

use std::process::ExitCode;

use palisade_policy::input::NamespacedName;
use palisade_policy::nearest;

use crate::cli::Explain;
use crate::output::Failure;

/// Explains.
pub(crate) fn run(explain: &Explain) -> Result<ExitCode, Failure> {
    match explain {
        Explain::Flow(arguments) => flow::run(arguments),
        Explain::Pod(arguments) => pod::run(arguments).map(|()| ExitCode::SUCCESS),
        Explain::Policy(arguments) => policy::run(arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// The object of this name, as `namespace/name` or, with `-n`, as `name`.
fn named<'a, T>(
    kind: &str,
    text: &str,
    namespace: Option<&str>,
    all: &'a std::collections::BTreeMap<NamespacedName, T>,
) -> Result<&'a T, Failure> {
    let key = match (text.split_once('/'), namespace) {
        (Some((namespace, name)), _) => NamespacedName::new(namespace, name),
        (None, Some(namespace)) => NamespacedName::new(namespace, text),
        (None, None) => NamespacedName::new("default", text),
    };
    all.get(&key).ok_or_else(|| {
        let names: Vec<_> = all.keys().map(ToString::to_string).collect();
        let failure = Failure::new(format!("{kind} {key} is not among the objects read"));
        match nearest(&key.to_string(), names.iter().map(String::as_str)) {
            Some(meant) => failure.hint(format!("did you mean {meant}?")),
            None => failure,
        }
    })
}
