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
use serde_json::Value;

use crate::cli::{Explain, TraceOutput};
use crate::output::{self, Failure};
use crate::trace::request::{key, unknown};

/// Explains.
pub(crate) fn run(explain: &Explain) -> Result<ExitCode, Failure> {
    match explain {
        Explain::Flow(arguments) => flow::run(arguments),
        Explain::Pod(arguments) => pod::run(arguments).map(|()| ExitCode::SUCCESS),
        Explain::Policy(arguments) => policy::run(arguments).map(|()| ExitCode::SUCCESS),
        Explain::Rule(arguments) => rule::run(arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// Prints an answer for machines.
fn print(form: TraceOutput, answer: &Value) -> Result<(), Failure> {
    match form {
        TraceOutput::Yaml => output::block(&output::yaml(answer)),
        TraceOutput::Json | TraceOutput::Text => output::line(&answer.to_string()),
    }
}

/// The object of this name, as `namespace/name` or, with `-n`, as `name`.
fn named<'a, T>(
    kind: &str,
    text: &str,
    namespace: Option<&str>,
    all: &'a BTreeMap<NamespacedName, T>,
) -> Result<&'a T, Failure> {
    let key = key(text, namespace);
    all.get(&key).ok_or_else(|| Failure::new(unknown(kind, &key, all.keys().map(ToString::to_string))))
}
