//! The lab with real packets; needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in tests, also outside of test functions"
)]

mod connectivity;
mod denial;
mod lifecycle;
mod traffic;
