//! What several modules need.

pub(crate) mod driven;
pub(crate) mod objects;
pub(crate) mod running;
