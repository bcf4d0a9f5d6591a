//! Namespaces.

use palisade_policy::input::{Kind, LEGACY_ANNOTATION, Namespace, Object};
use serde::Deserialize;

use super::decoder::Decoder;
use super::field::Field;
use super::metadata::{self, ObjectMeta};
use super::path::Path;
use super::{Decoded, Structure, syntax};
use crate::finding::Flaw;

/// `v1` Namespace, the fields that policies use.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KubeNamespace {
    metadata: Field<ObjectMeta>,
    status: Field<NamespaceStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NamespaceStatus {
    phase: Field<String>,
}

impl Structure for KubeNamespace {
    const KIND: Kind = Kind::Namespace;

    fn version(&self) -> &str {
        metadata::version(&self.metadata)
    }

    fn decode(self, decoder: &mut Decoder, path: &Path<'_>) -> Option<Decoded> {
        let metadata = decoder.metadata(self.metadata, path, syntax::dns_label);
        if metadata.legacy.is_some() {
            let (metadata, annotations);
            metadata = path.key("metadata");
            annotations = metadata.key("annotations");
            decoder.warn(Flaw::LegacyAnnotation, 0, &annotations.key(LEGACY_ANNOTATION), LEGACY_WARNING);
        }
        let phase = self.status.get().and_then(|status| status.phase.get());
        let mut namespace = Namespace::new(metadata.key?, metadata.labels);
        namespace.legacy_isolation = metadata.legacy.as_deref().is_some_and(demands_isolation);
        namespace.terminating = metadata.terminating || phase.as_deref() == Some("Terminating");
        Some(Decoded { object: Object::Namespace(namespace), ports: Vec::new() })
    }
}

const LEGACY_WARNING: &str = "isolates nothing without --legacy-namespace-isolation: Kubernetes has ignored it since 1.7; write a NetworkPolicy with an empty podSelector instead";

/// Whether the value of [`LEGACY_ANNOTATION`] asks for isolation. Kubernetes ignored any other value.
fn demands_isolation(annotation: &str) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(annotation).ok();
    value.as_ref().and_then(|value| value.pointer("/ingress/isolation")) == Some(&"DefaultDeny".into())
}
