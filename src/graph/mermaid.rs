//! The links as a flowchart of Mermaid: <https://mermaid.js.org/syntax/flowchart.html>.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use palisade_analysis::graph::End;

use super::picture::{namespaces, outside};
use super::{Shown, vertex};

pub(super) fn mermaid(shown: &Shown<'_>) -> String {
    let mut text = String::from("flowchart LR\n");
    // Mermaid has few characters for names of its own.
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut open = Vec::new();
    let mut number = |end: &End| {
        let next = numbers.len();
        format!("e{}", numbers.entry(vertex(end)).or_insert(next))
    };
    for (place, (namespace, ends)) in namespaces(shown).into_iter().enumerate() {
        // Writing to a String cannot fail.
        _ = writeln!(text, "  subgraph n{place}[{}]", quoted(&namespace));
        for end in ends {
            let own = number(&end);
            let mark = if let End::Workload(workload) = end { shown.mark(workload) } else { None };
            let label = mark.map_or_else(|| shown.end(&end), |mark| format!("{}<br/>{mark}", shown.end(&end)));
            _ = writeln!(text, "    {own}[{}]", quoted(&label));
            open.extend(mark.map(|_| own));
        }
        text.push_str("  end\n");
    }
    for end in outside(shown) {
        _ = writeln!(text, "  {}([{}])", number(&end), quoted(&shown.end(&end)));
    }
    for link in shown.links {
        let ports = quoted(&link.ports.to_string());
        _ = writeln!(text, "  {} -->|{ports}| {}", number(&link.from), number(&link.to));
    }
    if !open.is_empty() {
        _ = writeln!(text, "  classDef open stroke-dasharray: 4 3\n  class {} open", open.join(","));
    }
    text
}

/// A quoted string. Mermaid writes characters as `#`, a number or a name, and `;`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('#', "#35;").replace('"', "#quot;"))
}
