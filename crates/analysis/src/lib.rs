//! What policies mean for the objects there are.
//!
//! - [`mod@check`]: mistakes in policies, and rules that probably do not do what was meant.
//! - [`words`]: a flow, its verdict and the reasons.
//!
//! Pure: no I/O, no async, no clock, no environment. The binary reads the objects, looks up where they are written, and
//! prints.

pub mod check;
mod cover;
mod input;
mod labelled;
mod names;
mod rules;
mod view;
pub mod words;

pub use input::{Input, ObjectFacts, is_whole_cluster};
