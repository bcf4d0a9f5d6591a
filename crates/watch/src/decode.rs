//! Trees to objects.
//!
//! There is one decoder for everything. It notes every mistake and goes on, so that all of them are found at once. What
//! a mistake means depends on where the object comes from ([`Mode`]):
//!
//! - A manifest with a mistake is refused as a whole, as the API server would refuse it.
//! - An object that an API server holds was accepted, perhaps by an older server under laxer rules. There the smallest
//!   term around the mistake becomes one that matches nothing, so that a pod is never opened because something could not
//!   be read.

mod cidr;
mod context;
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

pub(crate) use context::{Context, Issue, Mode};
pub(crate) use namespace::{LEGACY_WARNING, demands_isolation};
pub(crate) use path::Path;
pub(crate) use pod::{DeclaredPort, HAS_NETWORK, PodFacts};
pub use syntax::nearest;
pub(crate) use workload::WorkloadKind;
