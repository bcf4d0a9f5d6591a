//! Parses YAML text into documents of [`Node`]s.
//!
//! Every document is parsed separately, so that a mistake in one leaves the others readable. JSON is read the same way:
//! it is YAML.

mod build;
mod scalar;

use crate::node::Node;

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its number in the file, from 1.
    pub(crate) number: usize,
    /// The tree, or why there is none.
    pub(crate) root: Result<Node, Malformed>,
}

/// Text that is not YAML, or YAML that JSON cannot express.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The line of the file, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) reason: String,
    /// What was probably meant.
    pub(crate) hint: Option<String>,
}

/// The documents of a file, in order. Empty ones are included, as null.
pub(crate) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    for part in split(text) {
        for root in build::trees(part.text, part.line) {
            documents.push(Document { number: documents.len() + 1, root });
        }
    }
    documents
}

/// The text between document separators, with the line on which it begins.
struct Part<'t> {
    text: &'t str,
    line: usize,
}

/// Splits the text at lines that are a `---`. YAML allows no such line inside a document, not even inside quotes. Text
/// before the first one is a document only if it is more than comments and directives.
fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    let mut has_content = false;
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) {
            if has_content {
                parts.push(Part { text: text.get(start..offset).unwrap_or_default(), line: start_line });
                start = offset;
                start_line = index + 1;
            }
            has_content = true;
        } else if !has_content {
            let line = line.trim();
            has_content = !(line.is_empty() || line.starts_with(['#', '%']));
        }
        offset += line.len();
    }
    parts.push(Part { text: text.get(start..).unwrap_or_default(), line: start_line });
    parts
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests;
