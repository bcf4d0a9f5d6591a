//! How policy becomes nftables: the model of one table, rendering, difference, text and JSON forms, and the packet walk.
//!
//! Pure: no I/O, no async, no clock, no environment. The same input gives the same bytes, always.
//!
//! - [`model`]: sets, verdict maps, chains and rules of the one table that Palisade owns.
//! - [`render`]: the compiled policy of a node in, the [`model::Ruleset`] out; whole, or only what changed.
//! - [`change`]: the difference of two rulesets, and the order in which the kernel may see it.
//! - [`text`]: what people read, and what `nft -f` loads.
//! - [`json`]: what `nft -j -f` loads.
//! - [`walk`]: a packet's way through the model.

pub mod change;
pub mod json;
pub mod model;
pub mod name;
pub mod render;
pub mod text;
pub mod walk;
