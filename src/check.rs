//! `palisade check`: mistakes in policies, in manifests or in a cluster.
//!
//! The decoder finds what an API server would reject or drop; `palisade_analysis` checks the objects. This module looks
//! up the position of each finding and prints all of them.

mod github;
mod print;
mod report;
mod sarif;

use std::process::ExitCode;

use palisade_analysis::check::{Remark, Severity};
use palisade_analysis::{Input, ObjectFacts, is_whole_cluster};
use palisade_watch::{Flaw, Survey};

use crate::cli::{CheckArgs, CheckOutput, FailOn};
use crate::output::{self, Failure};
use crate::source;

/// The exit status if there are findings that count; 2 means that something could not be read.
const FOUND: u8 = 1;

/// Reads, checks and prints. Exit status 0 without findings that count, 1 with such findings.
pub(crate) fn run(arguments: &CheckArgs) -> Result<ExitCode, Failure> {
    let (survey, whole) = if arguments.paths.is_empty() {
        (source::cluster(arguments.kubeconfig.as_deref(), arguments.context.as_deref())?, true)
    } else {
        let survey = palisade_watch::survey_manifests(arguments.how.of(&arguments.paths));
        let whole = arguments.whole_cluster || is_whole_cluster(survey.written.keys());
        (survey, whole)
    };
    let mut reports = report::reports(&survey, remarks(&survey, whole));
    if let (true, Some(namespace)) = (arguments.paths.is_empty(), &arguments.how.namespace) {
        reports.retain(|report| is_of(&report.file, namespace));
    }
    reports.retain(|report| !arguments.ignore.contains(&report.code));
    output::block(&match arguments.output {
        CheckOutput::Text => print::text(&reports),
        CheckOutput::Json => print::json(&reports),
        CheckOutput::Yaml => output::yaml(&reports),
        CheckOutput::Sarif => sarif::log(&reports),
        CheckOutput::Github => github::commands(&reports),
    })?;
    // Unread files were not checked, so this fails regardless of the findings.
    unread(&survey)?;
    if !reports.is_empty() {
        output::note(&print::counts(&reports));
    }
    let fails = reports.iter().any(|report| is_failure(report.code.entry().severity, arguments.fail_on));
    Ok(if fails { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn is_failure(severity: Severity, fail_on: FailOn) -> bool {
    match fail_on {
        FailOn::Note => true,
        FailOn::Warning => severity <= Severity::Warning,
        FailOn::Error => severity <= Severity::Error,
        FailOn::Never => false,
    }
}

/// The remarks of the checks.
fn remarks(survey: &Survey, whole: bool) -> Vec<Remark> {
    let facts = survey
        .written
        .iter()
        .map(|(name, written)| (name, ObjectFacts { sound: written.sound, ports: &written.ports }));
    let input = Input { state: &survey.state, written: facts.collect(), whole, custom: &survey.custom };
    palisade_analysis::check::check(&input).remarks
}

/// Whether an object of a cluster, such as `pods/shop/web` or `namespaces/shop`, is in this namespace.
fn is_of(object: &str, namespace: &str) -> bool {
    object.split('/').nth(1) == Some(namespace)
}

/// Files and directories that could not be read.
fn unread(survey: &Survey) -> Result<(), Failure> {
    let is_unread = |flaw| matches!(flaw, Flaw::Unreadable | Flaw::NothingThere);
    let unread: Vec<_> =
        survey.findings.iter().filter(|found| is_unread(found.flaw)).map(ToString::to_string).collect();
    if unread.is_empty() { Ok(()) } else { Err(Failure::new(unread.join("\n"))) }
}
