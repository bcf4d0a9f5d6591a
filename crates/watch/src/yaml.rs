//! Parses the text of a file into documents of [`Node`]s, as kubectl does.
//!
//! kubectl separates documents before it parses any (`k8s.io/apimachinery/pkg/util/yaml`), reads JSON if the file
//! begins with a brace, and YAML 1.1 otherwise (`sigs.k8s.io/yaml`). A parser of a later YAML accepts and rejects other
//! text, so this one follows kubectl's. `reference` compares the two.
//!
//! Two differences are deliberate. An unreadable document does not end the file. A duplicate key is an error: kubectl
//! takes one of the two.

mod build;
mod input;
mod json;
mod lexeme;
mod parse;
mod scalar;
mod scan;
mod text;

use crate::node::{Node, Value};

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its number in the file, from 1.
    pub(crate) number: usize,
    /// The tree, or why there is none.
    pub(crate) root: Result<Node, Malformed>,
    /// The kind, if there is no tree but the text still names it.
    pub(crate) kind: Option<String>,
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

impl Malformed {
    fn new(line: usize, reason: String) -> Self {
        Self { line, reason, hint: None }
    }
}

/// kubectl looks for the brace of a JSON file in this many bytes.
const LOOKAHEAD: usize = 4096;

/// The documents of a file, in order.
pub(crate) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix(input::BYTE_ORDER_MARK).unwrap_or(text);
    let mut file = File::default();
    let begins = text.trim_start();
    if begins.starts_with('{') && text.len() - begins.len() < LOOKAHEAD {
        file.json(text);
    } else {
        file.yaml(text, 1);
    }
    file.documents
}

#[derive(Default)]
struct File {
    documents: Vec<Document>,
}

impl File {
    fn add(&mut self, root: Result<Node, Malformed>, text: &str) {
        let kind = if root.is_err() { kind(text) } else { None };
        self.documents.push(Document { number: self.documents.len() + 1, root, kind });
    }

    /// Reads JSON values to the end. After fewer than two, the rest may be YAML.
    fn json(&mut self, text: &str) {
        let (mut rest, mut line) = (text, 1);
        loop {
            match json::next(rest, line) {
                Ok(None) => return,
                Ok(Some(next)) => {
                    self.add(next.root, rest);
                    (rest, line) = (next.rest, next.line);
                }
                Err(malformed) => {
                    let yaml = if self.documents.len() < 2 { after_json(rest) } else { None };
                    match yaml {
                        Some(yaml) => self.yaml(yaml, line + lines(rest, yaml)),
                        None => self.add(Err(malformed), rest),
                    }
                    return;
                }
            }
        }
    }

    /// Reads the documents between lines that begin with `---`. YAML allows no such line in a document, not even in
    /// quotes.
    fn yaml(&mut self, text: &str, first_line: usize) {
        let mut part = String::new();
        let mut part_line = first_line;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            if let Some(rest) = line.strip_prefix("---").map(str::trim) {
                let is_separator = rest.is_empty() || rest.starts_with('#');
                if !is_separator {
                    self.add(Err(wrong_separator(first_line + index)), &part);
                    part.clear();
                }
                // The parser reads the first separator of a file.
                let ends = !is_separator || !part.is_empty();
                if ends {
                    self.part(&part, part_line);
                    part.clear();
                    part_line = first_line + index + 1;
                    continue;
                }
            }
            part.push_str(line);
            part.push('\n');
        }
        self.part(&part, part_line);
    }

    fn part(&mut self, text: &str, line: usize) {
        if text.is_empty() {
            return;
        }
        let root = parse::tree(text, line);
        // Comments at the start of a file do not count as a document.
        let is_null = root.as_ref().is_ok_and(|root| root.value == Value::Null);
        if !(is_null && self.documents.is_empty() && !text.starts_with("---")) {
            self.add(root, text);
        }
    }
}

fn wrong_separator(line: usize) -> Malformed {
    let hint = Some("begin the document on the next line".to_owned());
    Malformed { hint, ..Malformed::new(line, "kubectl allows nothing but a comment after `---`".to_owned()) }
}

/// The text that kubectl reads as YAML after the JSON values, without the white space up to the end of the line. None
/// if kubectl gives up, which it does near the end of a file.
fn after_json(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let next = rest.chars().next().filter(|next| rest.len() >= 4 && *next != char::REPLACEMENT_CHARACTER)?;
        if !next.is_whitespace() {
            return Some(rest);
        }
        rest = rest.get(next.len_utf8()..)?;
        if next == '\n' {
            return Some(rest);
        }
    }
}

fn lines(all: &str, rest: &str) -> usize {
    all.get(..all.len() - rest.len()).map_or(0, |before| before.matches('\n').count())
}

/// The kind, if exactly one line begins with `kind:`.
fn kind(text: &str) -> Option<String> {
    let mut kinds = text.lines().filter_map(|line| line.strip_prefix("kind:"));
    let (kind, other) = (kinds.next()?, kinds.next());
    let kind = kind.split(" #").next().unwrap_or_default().trim();
    (other.is_none() && !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .then(|| kind.to_owned())
}

impl Document {
    /// Whether kubectl skips it.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.root.as_ref().is_ok_and(|root| root.value == Value::Null)
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
