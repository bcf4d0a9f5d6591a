//! How policy becomes nftables: the model of one table, rendering, difference, text and JSON forms, and the packet walk.
//!
//! Pure: no I/O, no async, no clock, no environment. The same input gives the same bytes, always.
//!
//! - [`model`]: sets, verdict maps, chains and rules of the one table that Palisade owns.
//! - [`render`]: the compiled policy of a node in, the [`model::Ruleset`] out; whole, or only the changes.
//! - [`cache`]: the rules that accept a flow whose earlier packet was allowed.
//! - [`change`]: the difference of two rulesets, and the order in which the kernel may see it.
//! - [`paste`]: a line of a listing, found again.
//! - [`text`]: the form that people read and `nft -f` loads.
//! - [`json`]: the form that `nft -j -f` loads.
//! - [`untracked`]: the verdict on packets without a flow in conntrack.
//! - [`walk`]: a packet's path through the model.

pub mod cache;
pub mod change;
pub mod json;
pub mod model;
pub mod name;
pub mod paste;
pub mod render;
pub mod text;
pub mod untracked;
pub mod walk;
