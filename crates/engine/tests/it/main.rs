//! The engine on a model of the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in tests, also outside of test functions"
)]

mod cache;
mod faults;
mod order;
