//! The kernel side: netlink commits, reading back, conntrack, and the state of the host.
//!
//! - [`table`]: the one table, `inet palisade`: opened, read back, changed in atomic batches.
//! - [`conntrack`]: deletes the flows of IPs that left their pods, and counts the flows there are.
//! - [`perform`]: performs the steps of an engine.
//! - [`host`]: the pods' interfaces, the node's own IPs, and settings that would let packets bypass the table.
//!
//! Everything blocks and uses its own netlink sockets; no process is started. A socket belongs to the network namespace
//! of the thread that opened it.

pub mod conntrack;
pub mod host;
pub mod perform;
pub mod table;

mod codec;
mod error;
mod netlink;
mod packets;
#[cfg(test)]
mod space;

#[cfg(any(test, feature = "faults"))]
pub use netlink::faults;

pub use error::Error;
