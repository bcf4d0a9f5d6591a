//! `palisade`: Kubernetes NetworkPolicy enforced with nftables.

mod agent;
mod check;
mod cleanup;
mod cli;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod ends;
mod explain;
mod graph;
mod list;
mod output;
mod pods;
mod render;
mod source;
mod trace;
mod untracked;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::cli::{Cli, Verb};
use crate::output::Failure;

fn main() -> ExitCode {
    // Wrong usage exits here, with status 2.
    let cli = Cli::from_arg_matches(&cli::command().get_matches()).unwrap_or_else(|error| error.exit());
    let done = match cli.verb {
        Verb::Agent(arguments) => return agent::run(arguments),
        // These fail with exit status 2: 1 is an answer.
        Verb::Render(arguments) => render::run(&arguments).map(succeeded).map_err(unread),
        Verb::Trace(arguments) => trace::run(&arguments).map_err(unread),
        Verb::Explain(of) => explain::run(&of).map_err(unread),
        Verb::Diff(arguments) => diff::run(&arguments).map_err(unread),
        Verb::Graph(arguments) => graph::run(&arguments).map(succeeded).map_err(unread),
        Verb::Pods(arguments) => pods::run(&arguments).map(succeeded).map_err(unread),
        Verb::List(arguments) => list::run(&arguments).map(succeeded),
        Verb::Check(arguments) => check::run(&arguments).map_err(unread),
        Verb::Cleanup(arguments) => cleanup::run(&arguments).map(succeeded),
        #[cfg(feature = "demo")]
        Verb::Demo(arguments) => demo::run(&arguments).map(succeeded),
        Verb::Completions(arguments) => completions(arguments.shell).map(succeeded),
        Verb::Man(arguments) => man(arguments.of.as_deref()).map(succeeded),
        Verb::Version => output::line(&format!("palisade {}", env!("CARGO_PKG_VERSION"))).map(succeeded),
    };
    done.unwrap_or_else(|failure| failure.report())
}

fn succeeded((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// The failure of a verb that only reads.
fn unread(failure: Failure) -> Failure {
    failure.status(2)
}

/// Prints a shell's completion script.
fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "palisade", &mut script);
    output::block(&String::from_utf8_lossy(&script))
}

/// Prints the man page of the program, or of a verb.
fn man(verb: Option<&str>) -> Result<(), Failure> {
    let mut program = cli::command();
    program.build();
    let page = match verb {
        None => program,
        Some(name) => program
            .find_subcommand(name)
            .ok_or_else(|| Failure::new(format!("there is no verb {name}; palisade --help lists them")).status(2))?
            .clone(),
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|error| Failure::new(format!("the man page cannot be written: {error}")))?;
    output::block(&String::from_utf8_lossy(&text))
}
