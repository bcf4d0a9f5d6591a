//! Output to stdout and stderr, and how a verb fails.

pub(crate) mod color;
mod progress;

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;

pub(crate) use progress::Progress;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    status: u8,
}

impl Failure {
    /// A failure with this message; exit status 1, unless the verb uses that for an answer.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, status: 1 }
    }

    /// Wrong usage, found after the arguments were parsed; exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { status: 2, ..Self::new(message) }
    }

    /// The same, with a hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, with this exit status.
    pub(crate) fn status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// A failure while `doing` something, with the causes of the error.
    pub(crate) fn caused(doing: &str, error: &dyn Error) -> Self {
        Self::new(format!("{doing}: {}", chain(error)))
    }

    /// Prints the failure on stderr, and returns the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        // If stderr is gone, there is nothing left to do.
        io::stderr().write_all(self.text().as_bytes()).ok();
        self.exit_code()
    }

    /// The message, in one line or, with a hint, two.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message.trim_end());
        if let Some(hint) = &self.hint {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }

    /// The exit status.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

/// An error and its causes in one line, without repetition.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// A remark on stderr.
pub(crate) fn note(text: &str) {
    // If stderr is gone, there is nothing left to do.
    io::stderr().write_all(format!("{text}\n").as_bytes()).ok();
}

/// A warning on stderr.
pub(crate) fn warn(text: &str) {
    // If stderr is gone, there is nothing left to do.
    io::stderr().write_all(format!("warning: {text}\n").as_bytes()).ok();
}

/// A line on stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    block(&format!("{text}\n"))
}

/// Text on stdout, verbatim. A closed pipe (`| head`) is not a failure.
pub(crate) fn block(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("cannot write to stdout", &error))
        }
        _ => Ok(()),
    }
}

/// A value as YAML, which YAML 1.1 and 1.2 read alike.
pub(crate) fn yaml(value: &impl Serialize) -> String {
    // Long lines stay whole, as in JSON.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    // What is serialized here is JSON, or serialized as JSON elsewhere.
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}

/// Rows of text in columns, as kubectl prints them: three spaces between, none at the end of a line.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    //! Seen to fail when: words of YAML 1.1 are not quoted; long lines are folded.

    use serde_json::{Value, json};

    use super::yaml;

    #[test]
    fn yaml_has_the_same_values_as_json() {
        let long = ["no rule matches"; 20].join(" ");
        let texts = [
            "no",
            "on",
            "y",
            "~",
            "null",
            "",
            " x",
            "x ",
            "1e3",
            "0x1f",
            "0o7",
            "1_000",
            "1:30",
            "2026-01-01",
            "::/0",
            "- a",
            "a: b",
            "a #b",
            "'",
            "\"",
            "\\",
            "a\nb\n",
            "\t",
            "{}",
            "[x",
            "*x",
            "&x",
            "!x",
            "%x",
            "@x",
            "`x",
            "<<",
            "=",
            "---",
            "→ é",
            "\u{1b}",
            "\u{feff}",
            "🦀",
            &long,
        ];
        let value = json!({ "texts": texts.to_vec(), "yes": true, "number": 7, "none": null, "empty": [], "nested": [{ "a": [{}] }] });
        let text = yaml(&value);
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
        for word in ["no", "on", "y", "~", "1_000", "1:30", "2026-01-01", "<<", "="] {
            let bare = format!("- {word}\n");
            assert!(!text.contains(&bare), "{word} is not text in YAML 1.1: {text}");
        }
        assert!(text.contains(&long), "{text}");
    }
}
