//! What the reference evaluator considered, and what the checks cost.

#![allow(clippy::unwrap_used, reason = "in tests, also outside of test functions")]

mod considered;
mod diff;
mod graph;
mod near;
mod work;
