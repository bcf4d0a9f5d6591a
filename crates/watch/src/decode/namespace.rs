//! Namespaces.

use palisade_policy::input::Namespace;

use super::context::Context;
use super::path::Path;
use super::syntax;
use crate::node::Node;

/// The annotation by which a namespace was isolated before NetworkPolicy was `v1` (Kubernetes 1.3 to 1.6).
pub(crate) const LEGACY_ANNOTATION: &str = "net.beta.kubernetes.io/network-policy";

impl Context {
    /// Reads a Namespace. Only what policies look at is read; the rest may be anything.
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
            self.warn(entry.line, &annotations.key(LEGACY_ANNOTATION), LEGACY_WARNING);
        }
        let mut namespace = Namespace::new(metadata.name, metadata.labels);
        namespace.terminating = metadata.terminating || phase == Some("Terminating");
        namespace
    }
}

/// What is said about [`LEGACY_ANNOTATION`].
pub(crate) const LEGACY_WARNING: &str = "has no effect: it isolated a namespace before Kubernetes 1.7; write a NetworkPolicy with an empty podSelector instead";
