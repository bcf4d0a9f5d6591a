//! `palisade explain policy`.

use std::fmt::Write as _;

use palisade_analysis::diff::Change;
use palisade_analysis::policy::{Explanation, OfRule, explain};
use palisade_policy::input::Policy;
use serde_json::{Value, json};

use crate::cli::{ExplainPolicyArgs, TraceOutput};
use crate::output::{self, Failure};
use crate::source;

/// How many workloads, or flows that only a rule allows, the text spells out; JSON has all.
const LINES: usize = 12;

pub(super) fn run(arguments: &ExplainPolicyArgs) -> Result<(), Failure> {
    let ExplainPolicyArgs { source, policy, output } = arguments;
    let state = source::read(source)?;
    let policy = super::named("policy", policy, source.how.namespace.as_deref(), &state.policies)?;
    let facts = source::facts(source.allow_egress_to_own_node, &[]);
    let explanation = explain(&state, &facts, policy);
    match output {
        TraceOutput::Text => output::block(&text(policy, &explanation)),
        form => super::print(*form, &as_json(policy, &explanation)),
    }
}

/// As many as are spelled out, and how many more there are.
fn some(all: &[String]) -> String {
    let mut text = all.iter().take(LINES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > LINES {
        // Writing to a String cannot fail.
        _ = write!(text, ", … {} more", all.len() - LINES);
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}

fn text(policy: &Policy, explanation: &Explanation) -> String {
    let isolates: Vec<_> = explanation.isolates.iter().map(ToString::to_string).collect();
    let pods = |(workload, count): (&String, &usize)| match count {
        1 => workload.clone(),
        count => format!("{workload} ({count} pods)"),
    };
    let selected: Vec<_> = explanation.selected.iter().map(pods).collect();
    let mut text = format!("{}\n", policy.key);
    _ = writeln!(text, "  podSelector  {}", policy.pod_selector);
    _ = writeln!(text, "  selects      {}", some(&selected));
    _ = writeln!(
        text,
        "  isolates for {}",
        if isolates.is_empty() { "nothing".to_owned() } else { isolates.join(" and ") }
    );
    for term in &policy.unenforceable {
        _ = writeln!(text, "  warning      {}: {}", term.field, term.reason);
    }
    for direction in &explanation.isolates {
        if explanation.rules.iter().all(|rule| rule.direction != *direction) {
            _ = writeln!(text, "\n{direction}: no rules, so nothing is allowed by this policy");
        }
    }
    for rule in &explanation.rules {
        let OfRule { direction, index, peers, ports, adds } = rule;
        _ = writeln!(text, "\n{direction}[{index}]: {ports}");
        for (peer, matched) in peers {
            let matched = matched.as_ref().map(|all| some(&all.iter().cloned().collect::<Vec<_>>()));
            _ = writeln!(
                text,
                "  {peer}{}",
                matched.map_or_else(String::new, |matched| format!(": matches {matched}"))
            );
        }
        if rule.is_shadowed() {
            _ = writeln!(text, "  adds nothing: other rules allow the same, or nothing here matches");
        } else {
            _ = writeln!(text, "  only this rule allows:");
            for change in adds.iter().take(LINES) {
                _ = writeln!(text, "    {}", flows(change));
            }
            if adds.len() > LINES {
                _ = writeln!(text, "    … {} more; -o json has all", adds.len() - LINES);
            }
        }
    }
    text
}

fn flows(change: &Change) -> String {
    let family = change.family.map(|family| format!(" ({family})")).unwrap_or_default();
    format!("{} → {}  {}{family}", change.from, change.to, change.opened)
}

fn as_json(policy: &Policy, explanation: &Explanation) -> Value {
    let rule = |rule: &OfRule| {
        let peers: Vec<_> =
            rule.peers.iter().map(|(peer, matched)| json!({ "peer": peer, "workloads": matched })).collect();
        let adds: Vec<_> = rule
            .adds
            .iter()
            .map(|change| {
                json!({
                    "from": change.from.to_string(), "to": change.to.to_string(),
                    "ports": change.opened.to_string(), "family": change.family.map(|family| family.to_string()),
                })
            })
            .collect();
        json!({
            "direction": rule.direction.to_string(), "rule": rule.index, "peers": peers, "ports": rule.ports,
            "adds": adds, "shadowed": rule.is_shadowed(),
        })
    };
    json!({
        "policy": policy.key.to_string(), "podSelector": policy.pod_selector.to_string(),
        "isolates": explanation.isolates.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "selects": explanation.selected, "rules": explanation.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}
