//! Manifests: files of Pods, Namespaces and NetworkPolicies, read as an API server would take them.

mod document;
mod objects;
mod read;

pub use objects::Objects;
pub use read::read_manifests;

pub(crate) use document::{Content, Object};
pub(crate) use objects::{Assembled, Duplicate, assemble, duplicates};
pub(crate) use read::{is_manifest, manifest_files, parse_file};
