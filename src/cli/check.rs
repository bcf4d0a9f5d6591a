//! The command line of `palisade check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use palisade_analysis::check::Code;

use super::Reading;

/// `palisade check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Manifests: files, directories, or `-` for stdin; without it, a cluster is checked
    #[arg(short = 'f', long = "filename", value_name = "PATH", num_args = 1.., conflicts_with = "kubeconfig")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) how: Reading,
    /// Report on all namespaces of a cluster; the default
    #[arg(short = 'A', long, conflicts_with_all = ["paths", "namespace"])]
    pub(crate) all_namespaces: bool,
    /// A kubeconfig; by default $KUBECONFIG, ~/.kube/config or the cluster that this runs in
    #[arg(long, value_name = "F")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; by default its current one
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    pub(crate) context: Option<String>,
    /// The format of the findings
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: CheckOutput,
    /// The lowest severity that makes the exit status 1
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    pub(crate) fail_on: FailOn,
    /// A code to ignore; repeatable
    #[arg(long, value_name = "CODE", value_parser = code)]
    pub(crate) ignore: Vec<Code>,
    /// The manifests are a whole cluster: also report what matches nothing anywhere
    #[arg(long, requires = "paths")]
    pub(crate) whole_cluster: bool,
}

/// The lowest severity that makes the exit status 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Any finding
    Note,
    /// A warning or an error
    Warning,
    /// An error
    Error,
    /// No finding
    Never,
}

fn code(name: &str) -> Result<Code, String> {
    let all = || Code::ALL.iter().map(|code| code.entry().name);
    Code::named(name).ok_or_else(|| match palisade_policy::nearest(name, all()) {
        Some(meant) => format!("unknown code; did you mean {meant}?"),
        None => "unknown code; docs/check.md lists all".to_owned(),
    })
}

/// The format of findings.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CheckOutput {
    /// For people
    Text,
    /// An array of findings
    Json,
    /// The same as YAML
    Yaml,
    /// SARIF 2.1.0, for code review
    Sarif,
    /// Workflow commands of GitHub Actions, which annotate the lines of a pull request
    Github,
}
