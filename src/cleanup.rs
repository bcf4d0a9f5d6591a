//! `palisade cleanup`: removes the ruleset from this node's kernel.

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::CleanupArgs;
use crate::output::{self, Failure};

/// Removes table `inet palisade`; a missing table is not an error.
pub(crate) fn run(arguments: &CleanupArgs) -> Result<(), Failure> {
    let removed = palisade_dataplane::table::cleanup().map_err(|error| {
        Failure::caused("cannot remove table inet palisade", &error)
            .hint("this needs CAP_NET_ADMIN, and no agent may run on this node")
    })?;
    output::line(if removed { "removed table inet palisade" } else { "there is no table inet palisade" })?;
    if arguments.stay {
        stay().map_err(|error| Failure::caused("cannot wait for signals", &error))?;
    }
    Ok(())
}

/// Waits for a signal to exit.
fn stay() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        Ok(())
    })
}
