//! The links as a table.

use std::fmt::Write as _;

use palisade_policy::input::Direction;

use super::Shown;
use crate::output::columns;

/// How many open workloads a line names; JSON has all.
const NAMED: usize = 24;

pub(super) fn text(shown: &Shown<'_>) -> String {
    let mut rows = vec![["FROM", "TO", "PORTS"].map(ToOwned::to_owned).to_vec()];
    let mut links: Vec<_> = shown
        .links
        .iter()
        .map(|link| vec![shown.end(&link.from), shown.end(&link.to), link.ports.to_string()])
        .collect();
    links.sort();
    rows.extend(links);
    let mut text = columns(&rows);
    for direction in Direction::ALL {
        let open = shown.workloads().into_iter().filter(|number| {
            shown.graph.workloads.get(*number).is_some_and(|vertex| !vertex.side(direction).is_isolated())
        });
        let open: Vec<_> = open.map(|number| shown.name(number)).collect();
        if !open.is_empty() {
            let more = open.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(", … {more} more") };
            let named = open.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            // Writing to a String cannot fail.
            _ = writeln!(text, "\nnot isolated for {direction}: {named}{more}");
        }
    }
    text
}
