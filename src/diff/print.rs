//! A difference as text, JSON and Markdown.

use std::fmt::Write as _;

use palisade_analysis::diff::{Change, Diff, Single};
use palisade_analysis::reach::PortSet;
use palisade_policy::input::Family;
use serde_json::{Value, json};

/// How many lines of a kind Markdown shows: a comment on a pull request has a limit.
const LINES: usize = 100;

/// The changes that open something, or close something, with what that is.
fn of(diff: &Diff, ports: fn(&Change) -> &PortSet) -> Vec<(&Change, String)> {
    let some = diff.changes.iter().filter(|change| !ports(change).is_empty());
    some.map(|change| (change, ports(change).to_string() + &family(change.family))).collect()
}

pub(super) fn opened(diff: &Diff) -> Vec<(&Change, String)> {
    of(diff, |change| &change.opened)
}

pub(super) fn closed(diff: &Diff) -> Vec<(&Change, String)> {
    of(diff, |change| &change.closed)
}

pub(super) fn family(family: Option<Family>) -> String {
    family.map(|family| format!(", {family} only")).unwrap_or_default()
}

pub(super) fn isolation(single: &Single) -> &'static str {
    match single.isolated {
        [true, true] => "isolated for egress and ingress",
        [true, false] => "isolated for egress only",
        [false, true] => "isolated for ingress only",
        [false, false] => "not isolated",
    }
}

pub(super) fn text(diff: &Diff) -> String {
    let mut rows = Vec::new();
    for (sign, changes) in [("+", opened(diff)), ("-", closed(diff))] {
        rows.extend(
            changes
                .into_iter()
                .map(|(change, ports)| vec![format!("{sign} {}", change.from), format!("→ {}", change.to), ports]),
        );
    }
    let mut text = crate::output::columns(&rows);
    for (what, list) in [("new workload", &diff.added), ("workload gone", &diff.removed)] {
        for single in list {
            // Writing to a String cannot fail.
            _ = writeln!(text, "{what}: {}, {}", single.workload, isolation(single));
        }
    }
    if diff.is_empty() {
        text.push_str("no flow changes\n");
    }
    text
}

pub(super) fn json(diff: &Diff) -> Value {
    let change = |change: &Change| {
        json!({
            "from": change.from.to_string(), "to": change.to.to_string(),
            "family": change.family.map(|family| family.to_string()),
            "opened": change.opened.to_string(), "closed": change.closed.to_string(),
        })
    };
    let single = |single: &Single| {
        let [egress, ingress] = single.isolated;
        json!({ "workload": single.workload, "isolated": { "egress": egress, "ingress": ingress } })
    };
    json!({
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "added": diff.added.iter().map(single).collect::<Vec<_>>(),
        "removed": diff.removed.iter().map(single).collect::<Vec<_>>(),
    })
}

pub(super) fn markdown(diff: &Diff) -> String {
    if diff.is_empty() {
        return "**Network policy:** no flow changes.\n".to_owned();
    }
    let (opened, closed) = (opened(diff), closed(diff));
    let mut text = format!("**Network policy:** {} opened, {} closed.\n", opened.len(), closed.len());
    for (title, changes) in [("Opened", opened), ("Closed", closed)] {
        if changes.is_empty() {
            continue;
        }
        _ = write!(text, "\n### {title}\n\n| from | to | ports |\n|---|---|---|\n");
        for (change, ports) in changes.iter().take(LINES) {
            _ = writeln!(
                text,
                "| {} | {} | {ports} |",
                escaped(&change.from.to_string()),
                escaped(&change.to.to_string())
            );
        }
        if changes.len() > LINES {
            _ = writeln!(text, "\n… {} more.", changes.len() - LINES);
        }
    }
    for (title, list) in [("New workloads", &diff.added), ("Workloads gone", &diff.removed)] {
        if !list.is_empty() {
            _ = write!(text, "\n### {title}\n\n");
            list.iter().take(LINES).for_each(|single| {
                _ = writeln!(text, "- {}: {}", escaped(&single.workload), isolation(single));
            });
        }
    }
    text
}

/// Names have no other character that Markdown reads.
fn escaped(name: &str) -> String {
    name.replace('_', "\\_").replace('|', "\\|")
}
