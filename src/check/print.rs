//! Reports as text and as JSON.

use std::fmt::Write as _;

use palisade_analysis::check::Severity;

use super::report::Report;
use crate::output::color::{self, ERROR, NOTE, WARNING};

/// `path:line: severity[code] field: what is wrong`, and a line with what to do.
pub(crate) fn text(reports: &[Report]) -> String {
    let mut text = String::new();
    for Report { file, line, field, severity, code, message, remedy: _ } in reports {
        let severity = color::styled(severity, style(code.entry().severity));
        let line = if *line == 0 { String::new() } else { format!("{line}:") };
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let code = code.entry();
        let advice = message.advice.as_deref().unwrap_or(code.advice);
        // Writing to a String cannot fail.
        writeln!(text, "{file}:{line} {severity}[{}] {field}{}\n    {advice}", code.name, message.matter).ok();
    }
    text
}

fn style(severity: Severity) -> anstyle::Style {
    match severity {
        Severity::Error => ERROR,
        Severity::Warning => WARNING,
        Severity::Info => NOTE,
    }
}

/// An array, one finding a line.
pub(crate) fn json(reports: &[Report]) -> String {
    // A struct of strings can always be serialized.
    let lines = reports.iter().map(|report| serde_json::to_string(report).unwrap_or_default());
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) }
}

/// `2 errors, 1 warning`.
pub(crate) fn counts(reports: &[Report]) -> String {
    let count = |severity: Severity, one: &str, many: &str| {
        let count = reports.iter().filter(|report| report.code.entry().severity == severity).count();
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
    };
    let counts = [
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Info, "note", "notes"),
    ];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
