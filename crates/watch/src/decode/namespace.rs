//! Namespaces.

use palisade_policy::input::{LEGACY_ANNOTATION, Namespace};

use super::context::Context;
use super::path::Path;
use super::syntax;
use crate::finding::Flaw;
use crate::node::Node;

impl Context {
    /// Reads a Namespace: only the fields that policies use; the rest may be anything.
    pub(crate) fn namespace(&mut self, object: &Node, path: &Path<'_>) -> Namespace {
        let metadata = self.metadata_without_namespace(object, path, syntax::dns_label);
        let status = object.get("status");
        let phase = status.and_then(|status| self.text(status, "phase", &path.key("status")));
        let annotation = object
            .get("metadata")
            .and_then(|node| node.get("annotations"))
            .and_then(|node| node.entry(LEGACY_ANNOTATION));
        if let Some(entry) = annotation {
            let (metadata, annotations);
            metadata = path.key("metadata");
            annotations = metadata.key("annotations");
            self.warn(Flaw::LegacyAnnotation, entry.line, &annotations.key(LEGACY_ANNOTATION), LEGACY_WARNING);
        }
        let legacy_isolation = annotation.and_then(|entry| entry.node.text()).is_some_and(demands_isolation);
        let mut namespace = Namespace::new(metadata.name, metadata.labels);
        namespace.legacy_isolation = legacy_isolation;
        namespace.terminating = metadata.terminating || phase == Some("Terminating");
        namespace
    }
}

/// The warning about [`LEGACY_ANNOTATION`].
pub(crate) const LEGACY_WARNING: &str = "isolates nothing without --legacy-namespace-isolation: Kubernetes ignores it since 1.7; write a NetworkPolicy with an empty podSelector instead";

/// Whether the value of [`LEGACY_ANNOTATION`] asks for isolation. Other JSON, or none, counted as absent.
pub(crate) fn demands_isolation(annotation: &str) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(annotation).ok();
    value.as_ref().and_then(|value| value.pointer("/ingress/isolation")) == Some(&"DefaultDeny".into())
}
