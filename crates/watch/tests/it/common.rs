//! What several modules need.

pub(crate) mod gather;
