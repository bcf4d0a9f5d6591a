//! `palisade`: Kubernetes NetworkPolicy enforced with nftables.

mod agent;
mod check;
mod cleanup;
mod cli;
#[cfg(feature = "demo")]
mod demo;
mod output;
mod render;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Verb};

fn main() -> ExitCode {
    // Wrong usage exits here, with status 2.
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Agent(arguments) => return agent::run(arguments),
        Verb::Render(arguments) => render::run(&arguments).map_err(|failure| failure.status(2)),
        Verb::Trace(arguments) => return trace::run(&arguments),
        Verb::Check(arguments) => return check::run(&arguments),
        Verb::Cleanup(arguments) => cleanup::run(&arguments),
        #[cfg(feature = "demo")]
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Completions(arguments) => completions(arguments.shell),
        Verb::Version => output::line(&format!("palisade {}", env!("CARGO_PKG_VERSION"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Prints a shell's script for completion.
fn completions(shell: clap_complete::Shell) -> Result<(), output::Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "palisade", &mut script);
    output::block(&String::from_utf8_lossy(&script))
}
