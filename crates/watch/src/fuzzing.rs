//! Decodes bytes without files or a server, for fuzzing.

use std::path::Path;

use palisade_policy::input::Change;
#[cfg(feature = "cluster")]
use palisade_policy::input::Object;

#[cfg(feature = "cluster")]
use crate::api::read_as_any_kind;
use crate::manifests::{Objects, Reading, parse_text};

/// Reads the bytes of a manifest file in every mode. None if it is rejected.
pub fn manifest(bytes: &[u8]) -> Option<[Change; 3]> {
    let file = Path::new("fuzzed.yaml");
    let read = |reading| parse_text(file, Ok(bytes.to_vec()), reading, "default");
    drop(Objects::of(vec![read(Reading::Everything), read(Reading::Workloads)]));
    let content = read(Reading::Objects);
    content.errors.is_empty().then(|| Objects::of(vec![content]).into_changes())
}

/// Reads the JSON of an API server's object as each of the watched kinds.
#[cfg(feature = "cluster")]
pub fn api_object(json: &[u8]) -> Vec<Change> {
    let change = |object| match object {
        Object::Pod(pod) => Change::Pod(pod),
        Object::Namespace(namespace) => Change::Namespace(namespace),
        Object::Policy(policy) => Change::Policy(policy),
    };
    read_as_any_kind(json).into_iter().map(change).collect()
}
