//! `palisade list`: the ruleset that this node's kernel has.

use palisade_dataplane::table;
use palisade_ruleset::text;

use crate::cli::ListArgs;
use crate::output::{self, Failure};

/// Prints the table as `nft list table inet palisade` does, without `nft`.
pub(crate) fn run(arguments: &ListArgs) -> Result<(), Failure> {
    let shown = table::show().map_err(|error| {
        Failure::caused("cannot read table inet palisade", &error).hint("this needs CAP_NET_ADMIN on the node")
    })?;
    let Some(shown) = shown else {
        return Err(Failure::new("there is no table inet palisade on this node")
            .hint("run this on a node, in the agent's pod or in the host's network namespace"));
    };
    for (name, reason) in &shown.found.undecodable {
        output::warn(&format!("{name} is not Palisade's: {reason}"));
    }
    let listing = text::Listing { ruleset: &shown.found.ruleset, named: &shown.named, rules: &shown.rules };
    output::block(&match &arguments.of {
        None => listing.whole(),
        Some(of) => listing.of(of).ok_or_else(|| {
            Failure::new(format!("the table has no element of {of}"))
                .hint("the pod is not on this node, or no policy isolates it or selects it as a peer")
        })?,
    })
}
