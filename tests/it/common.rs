//! Helpers of several modules.

pub(crate) mod browser;
pub(crate) mod driven;
pub(crate) mod listing;
pub(crate) mod objects;
pub(crate) mod running;
