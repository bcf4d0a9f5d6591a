//! Where objects are written, field by field.

use std::collections::BTreeMap;

use palisade_policy::input::Protocol;

use crate::decode::Path;
use crate::finding::Place;
use crate::node::{Node, Value};

/// The lines of the fields of an object, by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// The lines of the object `node` at `path` of its document.
    pub(crate) fn of(node: &Node, path: &Path<'_>) -> Self {
        let mut lines = Self::default();
        lines.take(node, path);
        lines
    }

    fn take(&mut self, node: &Node, path: &Path<'_>) {
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    let path = path.key(&entry.key);
                    self.0.insert(path.to_string(), entry.line);
                    self.take(&entry.node, &path);
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = path.index(index);
                    self.0.insert(path.to_string(), item.line);
                    self.take(item, &path);
                }
            }
            _ => {}
        }
    }

    /// The line of a field, or of its nearest parent that is written.
    pub(super) fn nearest(&self, field: &str) -> Option<usize> {
        let mut field = field;
        loop {
            if let Some(line) = self.0.get(field) {
                return Some(*line);
            }
            field = field.get(..field.rfind(['.', '['])?)?;
        }
    }
}

/// How an object is written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where it begins. An object of an API server has a file like `networkpolicies/shop/web`, document 0 and line 0.
    pub place: Place,
    /// It has no mistakes. Of an object with mistakes, unreadable parts match nothing.
    pub sound: bool,
    /// The kind of the workload that was read as this pod, if any.
    pub workload: Option<&'static str>,
    /// The ports that a pod's containers and sidecars declare, named or not.
    pub ports: Vec<(Protocol, u16)>,
    /// The path of the object in its document: empty, or `items[1]` and so on in a List.
    pub(crate) prefix: String,
    /// The lines of its fields; only policies have them.
    pub(crate) lines: Lines,
}

impl Written {
    /// The path of a field in the document, and the line of the field or of its nearest parent that is written.
    pub fn locate(&self, field: &str) -> (String, usize) {
        let path = match (self.prefix.as_str(), field) {
            ("", field) => field.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, field) => format!("{prefix}.{field}"),
        };
        let line = self.lines.nearest(&path).unwrap_or(self.place.line);
        (path, line)
    }
}
