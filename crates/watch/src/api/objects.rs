//! Objects of the API server, trimmed while they are decoded.

use palisade_policy::input::{Kind, Object};

use crate::decode::{Decoder, KubeNamespace, KubePod, KubePolicy, Path, Structure};

/// An object and the warnings about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Received {
    pub(super) object: Object,
    pub(super) warnings: Vec<String>,
}

impl Received {
    /// The object as policies see it. None if it has no name, which no server sends.
    ///
    /// A policy's warnings are the terms that match nothing. Remarks on terms that have an effect are for a linter.
    pub(super) fn read(structure: impl Structure) -> Option<Self> {
        let mut decoder = Decoder::of_server();
        let object = structure.decode(&mut decoder, &Path::Root)?.object;
        let in_words = |field: &str, reason: &str| format!("{field}: {reason}");
        let warnings = match &object {
            Object::Policy(policy) => {
                policy.unenforceable.iter().map(|term| in_words(&term.field, &term.reason)).collect()
            }
            Object::Pod(_) | Object::Namespace(_) => {
                decoder.warnings.iter().map(|issue| in_words(&issue.field, &issue.reason)).collect()
            }
        };
        Some(Self { object, warnings })
    }
}

/// The path of all objects of a kind, or of those in a namespace.
pub(super) fn url(kind: Kind, namespace: Option<&str>) -> String {
    let group = if kind == Kind::NetworkPolicy { "/apis/networking.k8s.io/v1" } else { "/api/v1" };
    match namespace {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{}", kind.resource()),
        None => format!("{group}/{}", kind.resource()),
    }
}

/// JSON decoded as each of the watched kinds, for fuzzing.
pub(super) fn read_as_any_kind(json: &[u8]) -> Vec<Object> {
    fn read<S: Structure>(json: &[u8]) -> Option<Object> {
        Some(Received::read(serde_json::from_slice::<S>(json).ok()?)?.object)
    }
    [read::<KubeNamespace>(json), read::<KubePod>(json), read::<KubePolicy>(json)].into_iter().flatten().collect()
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
