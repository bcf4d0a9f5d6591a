//! Where objects come from: an API server or a directory of manifests.
//!
//! - [`read_manifests`] reads files once, for commands that work offline; [`read_manifests_and_workloads`] also takes
//!   what makes pods; [`survey_manifests`] and [`ApiServer::survey`] take what is wrong as well, for a linter.
//! - [`ManifestDirectory`] and [`ApiServer`] are sources: they send [`Event`]s for as long as somebody listens, and can be
//!   exchanged for one another.
//!
//! There is one decoder of objects behind all of them. A manifest is held to what an API server takes in a new object;
//! what an API server holds is taken as it is, and a term that cannot be read matches nothing.

mod api;
mod decode;
mod directory;
mod error;
mod event;
mod finding;
#[doc(hidden)]
pub mod fuzzing;
mod manifests;
mod node;
mod yaml;

pub use api::{ApiServer, Contact, KindContact, Timing};
pub use decode::nearest;
pub use directory::ManifestDirectory;
pub use error::SourceError;
pub use event::{Arrival, Event, Failure, ListPart, NamespaceAnswer, Notice, ObjectAnswer, Request};
pub use finding::{Finding, Flaw, ManifestErrors, ObjectName, Place};
pub use manifests::{Objects, Survey, Written, read_manifests, read_manifests_and_workloads, survey_manifests};
pub use palisade_policy::input::{Kind, Object};
