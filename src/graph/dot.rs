//! The links as a graph in Graphviz's language: <https://graphviz.org/doc/info/lang.html>.

use std::fmt::Write as _;

use palisade_analysis::graph::End;

use super::picture::{namespaces, outside};
use super::{Shown, vertex};

pub(super) fn dot(shown: &Shown<'_>) -> String {
    let mut text = String::from(
        "digraph palisade {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\", fontsize=11];\n  \
         edge [fontname=\"sans-serif\", fontsize=9];\n",
    );
    for (number, (namespace, ends)) in namespaces(shown).into_iter().enumerate() {
        // Writing to a String cannot fail.
        _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={};\n    style=rounded;", quoted(&namespace));
        for end in ends {
            _ = writeln!(text, "    {} [{}];", quoted(&vertex(&end)), attributes(shown, &end));
        }
        text.push_str("  }\n");
    }
    for end in outside(shown) {
        _ = writeln!(text, "  {} [label={}, shape=ellipse];", quoted(&vertex(&end)), quoted(&shown.end(&end)));
    }
    for link in shown.links {
        let ports = quoted(&link.ports.to_string());
        _ = writeln!(text, "  {} -> {} [label={ports}];", quoted(&vertex(&link.from)), quoted(&vertex(&link.to)));
    }
    text.push_str("}\n");
    text
}

fn attributes(shown: &Shown<'_>, end: &End) -> String {
    let End::Workload(number) = end else {
        return format!("label={}, shape=folder", quoted(&shown.end(end)));
    };
    match shown.mark(*number) {
        Some(mark) => format!("label={}, style=dashed", quoted(&format!("{}\n{mark}", shown.name(*number)))),
        None => format!("label={}", quoted(shown.name(*number))),
    }
}

/// A quoted string; `\n` in a label is a new line.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
