//! The meaning of NetworkPolicy: input types, reference evaluator, compiler and incremental index.
//!
//! Pure: no I/O, no async, no clock, no environment. The same input gives the same output, always.
//!
//! - [`input`]: pods, namespaces and policies as the API server would default them, and the [`input::State`] they form.
//! - [`flow`]: a flow, and its judgement.
//! - [`mod@reference`]: `evaluate`, the simple and slow answer to "may this flow pass?".
//! - [`compile`]: the union of a group's policies, as the ruleset needs it.
//! - [`index`]: turns objects into the compiled policy of one node, and reports exactly what changed.
//! - [`Pulse`]: the progress of long work.
//! - [`nearest()`]: the probable spelling of a misspelled name.
//! - [`Users`]: counts the users of shared things.

pub mod compile;
pub mod flow;
pub mod index;
pub mod input;
mod nearest;
mod pulse;
pub mod reference;
mod users;

pub use nearest::nearest;
pub use pulse::Pulse;
pub use users::Users;
