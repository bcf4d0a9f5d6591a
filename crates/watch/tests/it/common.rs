//! Helpers of several modules.

pub(crate) mod gather;
