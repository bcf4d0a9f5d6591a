//! What is sent between namespaces, and how arrival is detected. It knows namespaces, but not nodes or pods.

pub(crate) mod flood;
pub(crate) mod flow;
pub mod packet;
pub(crate) mod probe;
pub(crate) mod raw;
pub(crate) mod serve;
pub(crate) mod shoot;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod stream;
