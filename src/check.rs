//! `palisade check`: mistakes in policies, in manifests or in a cluster.
//!
//! Reading finds what an API server would reject or drop; `palisade_analysis` checks the objects. Here the position of
//! each finding is looked up, and all are printed.

mod print;
mod report;
mod sarif;

use std::path::Path;
use std::process::ExitCode;

use palisade_analysis::check::Remark;
use palisade_analysis::{Input, ObjectFacts};
use palisade_watch::{ApiServer, Flaw, Survey};

use crate::cli::{CheckArgs, CheckOutput};
use crate::output::{self, Failure};

/// The exit status if there are findings; 2 means that something could not be read.
const FOUND: u8 = 1;

/// Reads, checks and prints. Exit status 0 without findings, 1 with findings, 2 if something could not be read.
pub(crate) fn run(arguments: &CheckArgs) -> ExitCode {
    match check(arguments) {
        Ok(status) => status,
        Err(failure) => failure.status(2).report(),
    }
}

fn check(arguments: &CheckArgs) -> Result<ExitCode, Failure> {
    let survey = if arguments.paths.is_empty() {
        in_cluster(arguments.kubeconfig.as_deref(), arguments.context.as_deref())?
    } else {
        palisade_watch::survey_manifests(arguments.how.of(&arguments.paths))
    };
    let mut reports = report::reports(&survey, remarks(&survey));
    if let (true, Some(namespace)) = (arguments.paths.is_empty(), &arguments.how.namespace) {
        reports.retain(|report| is_of(&report.file, namespace));
    }
    output::block(&match arguments.output {
        CheckOutput::Text => print::text(&reports),
        CheckOutput::Json => print::json(&reports),
        CheckOutput::Sarif => sarif::log(&reports),
    })?;
    // What was not read was not checked, whatever the rest contains.
    unread(&survey)?;
    if reports.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&print::counts(&reports));
    Ok(ExitCode::from(FOUND))
}

/// What the checks say.
fn remarks(survey: &Survey) -> Vec<Remark> {
    let facts = survey
        .written
        .iter()
        .map(|(name, written)| (name, ObjectFacts { sound: written.sound, ports: &written.ports }));
    palisade_analysis::check::check(&Input { state: &survey.state, written: facts.collect() })
}

/// Whether an object of a cluster, as `pods/shop/web` or `namespaces/shop`, is of this namespace.
fn is_of(object: &str, namespace: &str) -> bool {
    object.split('/').nth(1) == Some(namespace)
}

fn in_cluster(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Survey, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let survey = runtime.block_on(async { ApiServer::connect_to(kubeconfig, context).await?.survey().await });
    survey.map_err(|error| {
        Failure::caused("cannot read the cluster", &error)
            .hint("name manifests with -f, or a cluster with --kubeconfig")
    })
}

/// Files and directories that could not be read.
fn unread(survey: &Survey) -> Result<(), Failure> {
    let is_unread = |flaw| matches!(flaw, Flaw::Unreadable | Flaw::NothingThere);
    let unread: Vec<_> =
        survey.findings.iter().filter(|found| is_unread(found.flaw)).map(ToString::to_string).collect();
    if unread.is_empty() { Ok(()) } else { Err(Failure::new(unread.join("\n"))) }
}
