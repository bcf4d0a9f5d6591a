//! Both sources of objects, and the decoder that they share.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

mod agreement;
mod api;
mod common;
mod directory;
mod lenient;
mod manifests;
mod memory;
mod mutations;
mod notices;
mod unruly;
mod workloads;
