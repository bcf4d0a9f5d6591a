//! What a lab is made of.

pub(crate) mod address;
pub(crate) mod host;
pub(crate) mod lab;
pub(crate) mod link;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod service;
