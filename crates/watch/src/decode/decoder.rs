//! The decoder: its mode, the mistakes so far, and how it reads typed fields.

use super::path::Path;
use super::schema::Schema;
use crate::finding::Flaw;
use crate::node::{Entry, Node, Value};

/// The source of an object, which decides what is allowed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A manifest: what a current API server accepts in a new object.
    Manifest,
    /// An object that an API server holds.
    Accepted,
}

/// A mistake, or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// The line of the file; 0 if it is that of the field, or if there is no file.
    pub(crate) line: usize,
    /// The kind of mistake.
    pub(crate) flaw: Flaw,
    /// The field.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) reason: String,
    /// What was probably meant.
    pub(crate) hint: Option<String>,
}

/// Reads an object, and keeps the mistakes and warnings so far.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) mode: Mode,
    /// The namespace of an object that names none; an API server sends no such object.
    pub(super) namespace: Option<Box<str>>,
    pub(crate) errors: Vec<Issue>,
    pub(crate) warnings: Vec<Issue>,
}

impl Decoder {
    /// A decoder for a manifest, which is in `namespace` if it names none.
    pub(crate) fn of_manifest(namespace: &str) -> Self {
        let namespace = Some(namespace.into());
        Self { mode: Mode::Manifest, namespace, errors: Vec::new(), warnings: Vec::new() }
    }

    /// A decoder for an object that an API server holds.
    pub(crate) fn of_server() -> Self {
        Self { mode: Mode::Accepted, namespace: None, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a value that the API server rejects.
    pub(super) fn error(&mut self, line: usize, path: &Path<'_>, reason: impl Into<String>, hint: Option<String>) {
        self.flaw(Flaw::InvalidValue, line, path, reason, hint);
    }

    /// Notes a mistake of any kind.
    pub(super) fn flaw(
        &mut self,
        flaw: Flaw,
        line: usize,
        path: &Path<'_>,
        reason: impl Into<String>,
        hint: Option<String>,
    ) {
        self.errors.push(Issue { line, flaw, field: path.to_string(), reason: reason.into(), hint });
    }

    /// Notes a value of the wrong type.
    pub(super) fn wrong_type(&mut self, line: usize, path: &Path<'_>, reason: impl Into<String>, hint: Option<String>) {
        self.flaw(Flaw::WrongType, line, path, reason, hint);
    }

    /// Notes that a field is missing.
    pub(super) fn missing(&mut self, line: usize, path: &Path<'_>, reason: impl Into<String>, hint: Option<String>) {
        self.flaw(Flaw::MissingField, line, path, reason, hint);
    }

    /// Notes a warning.
    pub(super) fn warn(&mut self, flaw: Flaw, line: usize, path: &Path<'_>, reason: impl Into<String>) {
        self.warnings.push(Issue { line, flaw, field: path.to_string(), reason: reason.into(), hint: None });
    }

    /// Warns if `key` of `node` is present but null, which opens more than an empty value would.
    pub(super) fn warn_of_null(&mut self, node: &Node, key: &str, path: &Path<'_>, meaning: &str) {
        if let Some(entry) = node.entry(key).filter(|entry| entry.node.is_null()) {
            let reason = format!("is empty, which means the same as missing: {meaning}");
            self.warn(Flaw::NullValue, entry.line, &path.key(key), reason);
        }
    }

    /// Decodes a part; also returns whether it was free of mistakes.
    pub(super) fn part<T>(&mut self, decode: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.errors.len();
        let decoded = decode(self);
        (decoded, self.errors.len() == before)
    }

    /// Checks that `node` is a mapping with only the fields of the schema; null counts as an empty one.
    pub(super) fn fields(&mut self, node: &Node, path: &Path<'_>, schema: &Schema) {
        if self.mapping(node, path, Some(schema)).is_some() {
            self.unknown_fields(node, path, schema);
        }
    }

    /// Notes the fields of a mapping that the schema does not have.
    pub(super) fn unknown_fields(&mut self, node: &Node, path: &Path<'_>, schema: &Schema) {
        let Value::Mapping(entries) = &node.value else { return };
        for Entry { key, line, node } in entries {
            if !schema.fields.contains(&&**key) {
                let (flaw, hint) = schema.meant(key, node);
                self.flaw(flaw, *line, &path.key(key), format!("{} has no such field", schema.what), hint);
            }
        }
    }

    /// The entries of a mapping; null counts as an empty one.
    pub(super) fn mapping<'n>(
        &mut self,
        node: &'n Node,
        path: &Path<'_>,
        schema: Option<&Schema>,
    ) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Mapping(entries) => Some(entries),
            Value::Null => Some(&[]),
            _ => {
                let hint = schema.and_then(|schema| schema.shape_hint(node));
                self.wrong_type(node.line, path, format!("must be a mapping, not {}", node.in_words()), hint);
                None
            }
        }
    }

    /// The items of the list `key` of `node`, whose path is `path`; none if it is missing or null.
    pub(super) fn items<'n>(&mut self, node: &'n Node, key: &str, path: &Path<'_>) -> &'n [Node] {
        node.get(key).and_then(|list| self.list(list, path)).unwrap_or_default()
    }

    /// The items of a list; null counts as an empty one.
    pub(super) fn list<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n [Node]> {
        match &node.value {
            Value::Sequence(items) => Some(items),
            Value::Null => Some(&[]),
            _ => {
                let hint = path.last_key().and_then(|key| super::hint::for_missing_list(key, node));
                self.wrong_type(node.line, path, format!("must be a list, not {}", node.in_words()), hint);
                None
            }
        }
    }

    /// The text `key` of `node`, if present.
    pub(super) fn text<'n>(&mut self, node: &'n Node, key: &str, path: &Path<'_>) -> Option<&'n str> {
        let field = node.get(key)?;
        self.text_of(field, &path.key(key))
    }

    /// The text of `node`.
    pub(super) fn text_of<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n str> {
        match &node.value {
            Value::String(text) => Some(text),
            Value::Null => Some(""),
            _ => {
                self.wrong_type(
                    node.line,
                    path,
                    format!("must be text, not {}", node.in_words()),
                    quoting_hint(&node.value),
                );
                None
            }
        }
    }

    /// The boolean of `node`.
    pub(super) fn boolean(&mut self, node: &Node, path: &Path<'_>) -> Option<bool> {
        if let Value::Bool(value, _) = &node.value {
            return Some(*value);
        }
        self.wrong_type(node.line, path, format!("must be true or false, not {}", node.in_words()), None);
        None
    }

    /// The whole number of `node`; the hint is for any other value.
    pub(super) fn whole_number(&mut self, node: &Node, path: &Path<'_>, hint: Option<String>) -> Option<i64> {
        if let Value::Integer(value, _) = &node.value {
            return Some(*value);
        }
        self.wrong_type(node.line, path, format!("must be a whole number, not {}", node.in_words()), hint);
        None
    }
}

/// How to write a number or a boolean that is meant as text.
fn quoting_hint(value: &Value) -> Option<String> {
    match value {
        Value::Bool(_, written) | Value::Integer(_, written) | Value::Float(written) => {
            Some(format!("write it in quotes: \"{written}\""))
        }
        _ => None,
    }
}
