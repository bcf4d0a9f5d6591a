//! The effects of policies on the objects.
//!
//! - [`mod@check`]: mistakes in policies, and rules with a probably unintended effect.
//! - [`diff`]: what a change opens and closes.
//! - [`ends`]: the pods behind a Service or a workload.
//! - [`flow`]: a flow explained.
//! - [`graph`]: who may talk to whom, as tables.
//! - [`near`]: rules that miss a denied flow by one term.
//! - [`policy`]: a policy explained.
//! - [`reach`]: who may reach whom, on which ports.
//! - [`untracked`]: flows whose packets conntrack may not track.
//! - [`words`]: a flow, its verdict and the reasons.
//!
//! Pure: no I/O, no async, no clock, no environment. The binary reads the objects, looks up their positions, and
//! prints.

pub mod check;
mod cover;
pub mod diff;
pub mod ends;
pub mod flow;
pub mod graph;
mod input;
mod labelled;
mod names;
pub mod near;
pub mod policy;
pub mod reach;
mod rules;
pub mod untracked;
mod view;
pub mod words;

pub use input::{Input, ObjectFacts, is_whole_cluster};
