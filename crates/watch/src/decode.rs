//! Decodes trees into objects.
//!
//! There is one decoder for everything. It notes every mistake and continues, so that all of them are found at once. The
//! effect of a mistake depends on where the object comes from ([`Mode`]):
//!
//! - A manifest with a mistake is rejected as a whole, as the API server would reject it.
//! - An object that an API server holds was accepted, perhaps by an older server under laxer rules. There the smallest
//!   term around the mistake matches nothing, so that a parse error never opens a pod.

mod cidr;
mod context;
mod controller;
mod hint;
mod metadata;
mod namespace;
mod path;
mod pod;
mod policy;
mod rule;
mod schema;
mod selector;
mod syntax;
mod workload;

pub(crate) use context::{Context, DEFAULT_NAMESPACE, Issue, Mode};
pub(crate) use namespace::{LEGACY_WARNING, demands_isolation};
pub(crate) use path::Path;
pub(crate) use pod::{DeclaredPort, HAS_NETWORK, PodFacts};
pub(crate) use syntax::nearest;
pub(crate) use workload::WorkloadKind;
