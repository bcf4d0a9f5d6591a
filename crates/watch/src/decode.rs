//! Decodes objects from manifests and from an API server.
//!
//! Each kind is one [`Structure`], so that both sources are read alike. The JSON of an API server and the tree of a
//! manifest are deserialized into it; the tree's deserializer notes values of the wrong type and continues
//! ([`Decoder`]). The `spec` of a policy is read from a tree in either case, so that there is one reading of each
//! clause.
//!
//! The decoder notes every mistake and continues, so that it finds all of them at once. The effect of a mistake depends
//! on the source of the object:
//!
//! - A manifest with a mistake is rejected as a whole, as the API server would reject it.
//! - An object that an API server holds was accepted, perhaps by an older server under laxer rules. There the smallest
//!   term around the mistake matches nothing, so that a parse error never opens a pod.

mod cidr;
mod controller;
mod decoder;
mod defaults;
mod deserialize;
mod field;
mod hint;
mod metadata;
mod namespace;
mod path;
mod pod;
mod policy;
mod rule;
mod schema;
mod selector;
pub(crate) mod service;
mod syntax;
mod workload;

use palisade_policy::input::{Kind, NamespacedName, Object};
use serde::de::DeserializeOwned;

use crate::node::Node;
pub(crate) use decoder::{Decoder, Issue};
pub(crate) use defaults::NAMESPACE as DEFAULT_NAMESPACE;
pub(crate) use namespace::KubeNamespace;
pub(crate) use path::Path;
pub(crate) use pod::{DeclaredPort, KubePod};
pub(crate) use policy::KubePolicy;
pub(crate) use workload::WorkloadKind;

/// An object of the API, trimmed to the fields that policies use.
pub(crate) trait Structure: DeserializeOwned + Default + Send + 'static {
    /// Its kind.
    const KIND: Kind;

    /// The version of an object that an API server sent; empty if it has none.
    fn version(&self) -> &str;

    /// The object as policies see it; none if it has no name. The decoder notes mistakes and warnings.
    fn decode(self, decoder: &mut Decoder, path: &Path<'_>) -> Option<Decoded>;
}

/// A decoded object.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The object.
    pub(crate) object: Object,
    /// The ports that a pod's containers and sidecars declare, named or not.
    pub(crate) ports: Vec<DeclaredPort>,
}

impl Decoder {
    /// Reads the manifest of an object: the fields that policies use. It reports unknown fields of `metadata`; other
    /// fields may be anything.
    pub(crate) fn manifest<S: Structure>(&mut self, object: &Node, path: &Path<'_>) -> Option<Decoded> {
        self.metadata_fields(object, path);
        self.read::<S>(object, path).decode(self, path)
    }
}

/// A placeholder for a missing name, so that the rest of the object can be checked.
fn nameless() -> NamespacedName {
    NamespacedName::new("", "")
}
