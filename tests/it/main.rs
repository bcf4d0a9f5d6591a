//! The tests of the program and of all crates together, one module for each subject.
//!
//! `hack/test` runs the modules one after the other: many measure packets or time, and other modules' traffic would
//! disturb them. Its table lists the needs of each module: nothing, root, an API server or a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

mod common;

mod agent;
mod architecture;
mod atomic;
mod bypass;
mod check;
mod cli;
mod conformance;
mod corners;
#[cfg(feature = "demo")]
mod demo;
mod differential;
mod established;
mod faults;
mod golden;
mod graph;
mod killed;
mod legacy;
mod life;
mod manifests;
mod nft;
mod packets;
mod scale;
mod soak;
mod stamps;
mod untracked;
