//! `palisade cleanup`: removes the ruleset from this node's kernel.

use crate::output::{self, Failure};

/// Removes table `inet palisade`; that it is not there is no failure.
pub(crate) fn run() -> Result<(), Failure> {
    let removed = palisade_dataplane::table::cleanup().map_err(|error| {
        Failure::caused("cannot remove table inet palisade", &error)
            .hint("it takes CAP_NET_ADMIN, and no agent may be running on this node")
    })?;
    output::line(if removed { "removed table inet palisade" } else { "there is no table inet palisade" })
}
