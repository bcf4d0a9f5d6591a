//! Rendering, on generated clusters and on the packet model.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

mod differential;
mod engine;
mod shapes;
