//! Findings as text and as JSON.

use std::fmt::Write as _;

use super::code::Severity;
use super::finding::Finding;

/// `path:line: severity[code] field: what is wrong`, and a line with what to do.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { file, line, field, severity, code, message } in findings {
        let line = if *line == 0 { String::new() } else { format!("{line}:") };
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let (severity, code) = (severity.name(), code.entry());
        let advice = message.advice.as_deref().unwrap_or(code.advice);
        // Writing to a String cannot fail.
        writeln!(text, "{file}:{line} {severity}[{}] {field}{}\n    {advice}", code.name, message.matter).ok();
    }
    text
}

/// An array, a finding a line.
pub(crate) fn json(findings: &[Finding]) -> String {
    // Texts in a struct always have a form in JSON.
    let lines = findings.iter().map(|finding| serde_json::to_string(finding).unwrap_or_default());
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) }
}

/// `2 errors, 1 warning`.
pub(crate) fn counts(findings: &[Finding]) -> String {
    let count = |severity: Severity, one: &str, many: &str| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
    };
    let counts = [
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Info, "note", "notes"),
    ];
    counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
