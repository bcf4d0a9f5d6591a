//! Tests of the test support.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

mod apiserver;
mod corpus;
mod fakeapi;
mod generated;
mod selectors;
