//! The effects of policies on the objects.
//!
//! - [`mod@check`]: mistakes in policies, and rules with a probably unintended effect.
//! - [`words`]: a flow, its verdict and the reasons.
//!
//! Pure: no I/O, no async, no clock, no environment. The binary reads the objects, looks up their positions, and
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
