//! Reports as SARIF 2.1.0, which code review systems read.

use std::fmt::Write as _;

use palisade_analysis::check::{Code, Severity};
use serde_json::{Map, Value, json};

use super::report::Report;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A log of one run. Every code is among the rules, found or not.
pub(crate) fn log(reports: &[Report]) -> String {
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "palisade",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": Code::ALL.iter().copied().map(rule).collect::<Vec<_>>(),
            }},
            "results": reports.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{log:#}\n")
}

fn rule(code: Code) -> Value {
    let entry = code.entry();
    json!({
        "id": entry.name,
        "shortDescription": { "text": entry.meaning },
        "help": { "text": entry.advice },
        "defaultConfiguration": { "level": level(entry.severity) },
    })
}

fn result(report: &Report) -> Value {
    json!({
        "ruleId": report.code.entry().name,
        "ruleIndex": Code::ALL.iter().position(|code| *code == report.code),
        "level": level(report.code.entry().severity),
        "message": { "text": report.message.line() },
        "locations": [location(report)],
    })
}

/// A line of a file, or an object of a cluster; and the field.
fn location(report: &Report) -> Value {
    let mut location = Map::new();
    let mut names = vec![report.field.as_str()];
    if report.line > 0 {
        let artifact = json!({ "uri": uri(&report.file) });
        let place = json!({ "artifactLocation": artifact, "region": { "startLine": report.line } });
        location.insert("physicalLocation".to_owned(), place);
    } else {
        names.insert(0, &report.file);
    }
    names.retain(|name| !name.is_empty());
    if !names.is_empty() {
        let name = json!({ "fullyQualifiedName": names.join("/") });
        location.insert("logicalLocations".to_owned(), json!([name]));
    }
    location.into()
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// A file as a URI: relative stays relative, so that it is found in another checkout.
fn uri(file: &str) -> String {
    let mut uri = if file.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in file.strip_prefix("./").unwrap_or(file).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => write!(uri, "%{byte:02X}").unwrap_or_default(),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn uris() {
        assert_eq!(uri("a/b.yaml"), "a/b.yaml");
        assert_eq!(uri("./a b/é.yaml"), "a%20b/%C3%A9.yaml");
        assert_eq!(uri("/tmp/a:b.yaml"), "file:///tmp/a%3Ab.yaml");
        assert_eq!(uri("-"), "-");
    }
}
