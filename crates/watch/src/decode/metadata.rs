//! `metadata`, common to all kinds.

use std::collections::BTreeMap;

use palisade_policy::input::{Labels, NamespacedName};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::decoder::{Decoder, Mode};
use super::field::Field;
use super::path::Path;
use super::schema::METADATA;
use super::syntax;
use crate::node::{Node, Value};

/// `metav1.ObjectMeta`, the fields that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ObjectMeta {
    pub(super) name: Field<String>,
    pub(super) generate_name: Field<String>,
    namespace: Field<String>,
    resource_version: Field<String>,
    labels: Field<BTreeMap<String, Field<String>>>,
    deletion_timestamp: Field<IgnoredAny>,
    annotations: Field<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "net.beta.kubernetes.io/network-policy")]
    legacy: Field<String>,
}

/// The version of an object that an API server sent; empty if it has none.
pub(super) fn version(metadata: &Field<ObjectMeta>) -> &str {
    let version = metadata.as_ref().get().and_then(|metadata| metadata.resource_version.as_ref().get());
    version.map_or("", String::as_str)
}

/// An object of which only the metadata is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: Field<ObjectMeta>,
}

/// Metadata with its defaults.
#[derive(Debug, Default)]
pub(super) struct Metadata<K> {
    /// The name; none if it is missing or unreadable.
    pub(super) key: Option<K>,
    /// The labels.
    pub(super) labels: Labels,
    /// A deletion timestamp is set.
    pub(super) terminating: bool,
    /// The annotation that isolated a namespace before Kubernetes 1.7.
    pub(super) legacy: Option<String>,
}

impl Decoder {
    /// Reads the metadata of an object, and checks it for unknown fields.
    pub(super) fn metadata_of(&mut self, object: &Node, path: &Path<'_>) -> Field<ObjectMeta> {
        self.metadata_fields(object, path);
        self.read::<Head>(object, path).metadata
    }

    /// Checks the metadata of an object for unknown fields.
    pub(super) fn metadata_fields(&mut self, object: &Node, path: &Path<'_>) {
        if let Some(metadata) = object.get("metadata") {
            self.unknown_fields(metadata, &path.key("metadata"), &METADATA);
        }
    }

    /// The metadata of a namespaced object.
    pub(super) fn namespaced(&mut self, metadata: Field<ObjectMeta>, path: &Path<'_>) -> Metadata<NamespacedName> {
        let namespace = metadata.as_ref().get().and_then(|metadata| metadata.namespace.as_ref().get());
        let namespace = namespace.filter(|namespace| !namespace.is_empty()).cloned();
        let Metadata { key: name, labels, terminating, legacy } = self.metadata(metadata, path, syntax::dns_subdomain);
        if let Some(reason) = namespace.as_deref().filter(|_| self.mode == Mode::Manifest).and_then(syntax::dns_label) {
            let namespace = namespace.as_deref().unwrap_or_default();
            self.error(0, &path.key("metadata").key("namespace"), format!("{namespace:?}: {reason}"), None);
        }
        let namespace = namespace.map(String::into_boxed_str).or_else(|| self.namespace.clone());
        let key = namespace.zip(name).map(|(namespace, name)| NamespacedName::new(namespace, name));
        Metadata { key, labels, terminating, legacy }
    }

    /// The metadata of an object, whose name must satisfy `syntax`.
    pub(super) fn metadata(
        &mut self,
        metadata: Field<ObjectMeta>,
        path: &Path<'_>,
        syntax: fn(&str) -> Option<String>,
    ) -> Metadata<String> {
        let path = &path.key("metadata");
        if matches!(metadata, Field::Absent) {
            self.missing(0, path, "is missing; an object needs at least a name", None);
        }
        let Field::Is(metadata) = metadata else {
            return Metadata { key: None, labels: Labels::new(), terminating: false, legacy: None };
        };
        Metadata {
            key: self.name(metadata.name, &metadata.generate_name, path, syntax),
            labels: self.labels(metadata.labels, path),
            terminating: matches!(metadata.deletion_timestamp, Field::Is(_)),
            legacy: metadata.annotations.get().and_then(|annotations| annotations.legacy.get()),
        }
    }

    fn name(
        &mut self,
        name: Field<String>,
        generated: &Field<String>,
        path: &Path<'_>,
        syntax: fn(&str) -> Option<String>,
    ) -> Option<String> {
        let path = &path.key("name");
        if matches!(name, Field::Absent) {
            let hint = "generateName is not enough here: give a name".to_owned();
            self.missing(0, path, "is missing", matches!(generated, Field::Is(_)).then_some(hint));
        }
        let name = name.get()?;
        if let Some(reason) = Some(&name).filter(|_| self.mode == Mode::Manifest).and_then(|name| syntax(name)) {
            self.error(0, path, format!("{name:?}: {reason}"), None);
        }
        Some(name).filter(|name| !name.is_empty())
    }

    /// Labels. Null counts as empty text, as in Go.
    fn labels(&mut self, labels: Field<BTreeMap<String, Field<String>>>, path: &Path<'_>) -> Labels {
        let mut read = Labels::new();
        for (key, value) in labels.or_default() {
            let value = match value {
                Field::Is(value) => Some(value),
                Field::Absent => Some(String::new()),
                Field::Unreadable => None,
            };
            if self.mode == Mode::Manifest {
                self.check_label(&key, value.as_deref(), &path.key("labels").key(&key));
            }
            read.extend(value.map(|value| (key, value)));
        }
        read
    }

    /// The labels of a workload's pod template, which needs no name.
    pub(super) fn template_labels(&mut self, metadata: Field<ObjectMeta>, path: &Path<'_>) -> Labels {
        let labels = metadata.get().map(|metadata| metadata.labels).unwrap_or_default();
        self.labels(labels, &path.key("metadata"))
    }

    /// Checks the syntax of a label.
    pub(super) fn check_label(&mut self, key: &str, value: Option<&str>, path: &Path<'_>) {
        if let Some(reason) = syntax::label_key(key) {
            self.error(0, path, format!("the label key {reason}"), None);
        }
        if let Some(value) = value
            && let Some(reason) = syntax::label_value(value)
        {
            self.error(0, path, format!("the label value {value:?} {reason}"), None);
        }
    }

    /// The value `node` of the label `key` in a selector.
    pub(super) fn selector_label(&mut self, key: &str, node: &Node, path: &Path<'_>) -> Option<String> {
        let value = if matches!(node.value, Value::Sequence(_)) {
            let hint = "for several values write matchExpressions: [{key: …, operator: In, values: […]}]".to_owned();
            self.wrong_type(node.line, path, "must be text, not a list", Some(hint));
            None
        } else {
            self.text_of(node, path)
        };
        self.check_label(key, value, path);
        value.map(str::to_owned)
    }
}
