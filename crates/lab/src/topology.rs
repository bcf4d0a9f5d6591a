//! The parts of a lab. They use [`crate::traffic`] (pods serve, a lab shoots), never the reverse.

pub(crate) mod address;
pub(crate) mod fabric;
pub(crate) mod host;
pub(crate) mod lab;
pub(crate) mod layout;
pub(crate) mod link;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod service;
