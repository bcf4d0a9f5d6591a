//! The kernel side: netlink commits, reading back, conntrack facts, and what the host looks like.
//!
//! - [`table`]: the one table, `inet palisade`: opened, read back, changed in atomic batches.
//! - [`conntrack`]: forgetting the flows of addresses that left their pods.
//! - [`perform`]: the steps of an engine, done.
//! - [`host`]: the ports that pods hang on, the node's own addresses, and settings that would let packets past the table.
//!
//! Everything blocks and talks to the kernel over its own netlink sockets; no process is started. A socket belongs to the
//! network namespace of the thread that opened it.

pub mod conntrack;
pub mod host;
pub mod perform;
pub mod table;

mod codec;
mod error;
mod netlink;
mod packets;

#[cfg(any(test, feature = "faults"))]
pub use netlink::faults;

pub use error::Error;
