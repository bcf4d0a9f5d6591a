//! Reports as workflow commands of GitHub Actions, which shows them as annotations of a pull request's lines.

use palisade_analysis::check::Severity;

use super::report::Report;

/// A command for each finding: `::warning file=…,line=…,title=…::message`.
pub(crate) fn commands(reports: &[Report]) -> String {
    reports.iter().map(command).collect()
}

fn command(report: &Report) -> String {
    let Report { file, line, field, code, message, .. } = report;
    let entry = code.entry();
    let level = match entry.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    };
    let (title, file_property) = (property(entry.name), property(file.strip_prefix("./").unwrap_or(file)));
    // Without a line it is an object of a cluster, and of stdin there is no file: the message names it instead.
    let (place, object) = if *line > 0 && file != "-" {
        (format!("file={file_property},line={line},"), String::new())
    } else {
        (String::new(), format!("{file}: "))
    };
    let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let advice = message.advice.as_deref().unwrap_or(entry.advice);
    format!("::{level} {place}title={title}::{}\n", data(&format!("{object}{field}{}; {advice}", message.matter)))
}

/// A message, escaped as the runner unescapes it (`command.ts` of actions/toolkit).
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property, escaped in the same way.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    //! Seen to fail when: a message has a comma or colon escaped; a file has not; `%` is escaped last.

    use super::*;

    #[test]
    fn values_are_escaped_as_documented() {
        assert_eq!(property("a,b:c/50%\r\n.yaml"), "a%2Cb%3Ac/50%25%0D%0A.yaml");
        assert_eq!(data("a, b: 50%\r\nc"), "a, b: 50%25%0D%0Ac");
    }
}
