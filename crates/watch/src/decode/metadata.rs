//! `metadata`, common to all kinds.

use palisade_policy::input::Labels;

use super::context::Context;
use super::path::Path;
use super::schema::METADATA;
use super::syntax;
use crate::node::{Node, Value};

/// The fields of `metadata` that are used.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    /// The name; empty if it could not be read.
    pub(crate) name: String,
    /// The namespace, defaulted; empty for kinds without one.
    pub(crate) namespace: String,
    /// The labels.
    pub(crate) labels: Labels,
    /// A deletion timestamp is set.
    pub(crate) terminating: bool,
}

impl Context {
    /// Reads the metadata of a namespaced object.
    pub(super) fn metadata(&mut self, object: &Node, path: &Path<'_>) -> Metadata {
        let mut metadata = self.metadata_without_namespace(object, path, syntax::dns_subdomain);
        let path = path.key("metadata");
        let node = object.get("metadata");
        let namespace = node.and_then(|node| self.text(node, "namespace", &path)).filter(|text| !text.is_empty());
        if let (Some(namespace), Some(node)) = (namespace, node)
            && let Some(reason) = syntax::dns_label(namespace)
        {
            let line = node.get("namespace").map_or(node.line, |field| field.line);
            self.error(line, &path.key("namespace"), format!("{namespace:?}: {reason}"), None);
        }
        namespace.unwrap_or(&self.namespace).clone_into(&mut metadata.namespace);
        metadata
    }

    /// Reads the metadata of an object, whose name must satisfy `syntax`.
    pub(super) fn metadata_without_namespace(
        &mut self,
        object: &Node,
        path: &Path<'_>,
        syntax: fn(&str) -> Option<String>,
    ) -> Metadata {
        let path = &path.key("metadata");
        let Some(node) = object.get("metadata") else {
            self.missing(object.line, path, "is missing; an object needs at least a name", None);
            return Metadata::default();
        };
        self.fields(node, path, &METADATA);
        Metadata {
            name: self.name(node, path, syntax),
            namespace: String::new(),
            labels: self.labels(node, path),
            terminating: node.get("deletionTimestamp").is_some(),
        }
    }

    fn name(&mut self, metadata: &Node, path: &Path<'_>, syntax: fn(&str) -> Option<String>) -> String {
        let field = &path.key("name");
        let Some(node) = metadata.get("name") else {
            let hint = metadata.get("generateName").map(|_| "generateName is not enough here: give a name".to_owned());
            self.missing(metadata.line, field, "is missing", hint);
            return String::new();
        };
        let Some(name) = self.text_of(node, field) else { return String::new() };
        if let Some(reason) = syntax(name) {
            self.error(node.line, field, format!("{name:?}: {reason}"), None);
        }
        name.to_owned()
    }

    pub(super) fn labels(&mut self, metadata: &Node, path: &Path<'_>) -> Labels {
        let path = &path.key("labels");
        let Some(node) = metadata.get("labels") else { return Labels::new() };
        self.label_map(node, path)
    }

    /// A mapping of label keys to label values.
    pub(super) fn label_map(&mut self, node: &Node, path: &Path<'_>) -> Labels {
        let entries = self.mapping(node, path, None).unwrap_or_default();
        let mut labels = Labels::new();
        for entry in entries {
            let path = &path.key(&entry.key);
            if let Some(reason) = syntax::label_key(&entry.key) {
                self.error(entry.line, path, format!("the label key {reason}"), None);
            }
            if matches!(entry.node.value, Value::Sequence(_)) {
                let hint =
                    "for several values write matchExpressions: [{key: …, operator: In, values: […]}]".to_owned();
                self.wrong_type(entry.node.line, path, "must be text, not a list", Some(hint));
                continue;
            }
            let Some(value) = self.text_of(&entry.node, path) else { continue };
            if let Some(reason) = syntax::label_value(value) {
                self.error(entry.node.line, path, format!("the label value {value:?} {reason}"), None);
            }
            labels.insert(entry.key.to_string(), value.to_owned());
        }
        labels
    }
}
