//! Fuzz targets; the binaries pass them libFuzzer's inputs.

pub mod targets;
