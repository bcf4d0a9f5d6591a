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
    /// Those of the object `node` at `path` of its document.
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

    /// The line of a field, or of what it would be in.
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
    /// It has no mistakes. One with mistakes is as far as it could be read, and what could not be read matches nothing.
    pub sound: bool,
    /// The kind, if it is no Pod but a workload that stands for one.
    pub workload: Option<&'static str>,
    /// Of a pod, the ports that its containers and sidecars declare, with or without a name.
    pub ports: Vec<(Protocol, u16)>,
    /// The path of the object in its document: empty, or as `items[1]` in a List.
    pub(crate) prefix: String,
    /// The lines of its fields; only policies have them.
    pub(crate) lines: Lines,
}

impl Written {
    /// The path in the document of a field of the object, and the line of it, or of what it would be in.
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
