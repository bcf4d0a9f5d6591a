//! Where objects come from: an API server or a directory of manifests

mod decode;
mod finding;
mod manifests;
mod node;
mod yaml;

pub use finding::{Finding, Kind, ManifestErrors, ObjectName, Place};
pub use manifests::{Objects, read_manifests};
