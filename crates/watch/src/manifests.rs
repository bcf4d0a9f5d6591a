//! Manifests: files of Pods, Namespaces and NetworkPolicies, read as an API server would read them.

mod document;
mod file;
mod objects;
mod read;
mod selection;
mod survey;
mod workloads;
mod written;

pub use objects::Objects;
pub use read::{read_manifests, read_manifests_and_workloads};
pub use selection::Selection;
pub use survey::{Survey, survey_manifests};
pub use written::Written;

pub(crate) use document::{Content, Reading};
pub(crate) use file::{Identity, Limits, read_found};
pub(crate) use objects::{Assembled, Duplicate, assemble, duplicates};
pub(crate) use read::{is_manifest, manifests_in, parse_text};
pub(crate) use written::Lines;
