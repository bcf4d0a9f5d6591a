//! `palisade check`: mistakes in policies, in manifests or in a cluster.
//!
//! Reading finds what an API server would reject or drop. The checks, one module for each group of codes, are functions
//! of the objects alone; the position of a field is looked up last. The engine's own matchers decide which policy
//! selects which pod.

mod code;
mod cover;
mod dns;
mod effect;
mod finding;
mod ports;
mod print;
mod sarif;
mod selectors;
mod terms;
mod view;

use std::path::Path;
use std::process::ExitCode;

use palisade_watch::{ApiServer, Flaw, Survey};

use crate::cli::{CheckArgs, CheckOutput};
use crate::output::{self, Failure};

use view::View;

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
    let mut findings = finding::findings(&survey, remarks(&survey));
    if let (true, Some(namespace)) = (arguments.paths.is_empty(), &arguments.how.namespace) {
        findings.retain(|finding| is_of(&finding.file, namespace));
    }
    output::block(&match arguments.output {
        CheckOutput::Text => print::text(&findings),
        CheckOutput::Json => print::json(&findings),
        CheckOutput::Sarif => sarif::log(&findings),
    })?;
    // What was not read was not checked, whatever the rest contains.
    unread(&survey)?;
    if findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&print::counts(&findings));
    Ok(ExitCode::from(FOUND))
}

/// What the checks say.
fn remarks(survey: &Survey) -> Vec<finding::Remark> {
    let view = View::new(survey);
    [terms::check(&view), selectors::check(&view), ports::check(&view), effect::check(&view), dns::check(&view)]
        .concat()
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
