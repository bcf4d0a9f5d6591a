//! Fuzz targets; the binaries hand them what libFuzzer makes up.

pub mod targets;
