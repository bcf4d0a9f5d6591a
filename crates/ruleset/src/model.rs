//! The model of the table `inet palisade`: a closed list of object kinds and expressions, which the text form, the JSON
//! form, the netlink form and the packet walk all cover.

mod expression;
mod object;

pub use expression::{CtStates, Expression, L4, Load, MarkBits, PacketType, Test, Verdict};
pub use object::{Chain, Element, Field, Hook, Key, KeyType, Rule, Ruleset, Set, SetKind};

/// The one table, of family `inet`; nothing outside it is read or written.
pub const TABLE: &str = "palisade";

/// The table's comment: a legend. The kernel cannot change it in place.
pub const TABLE_COMMENT: &str = "NetworkPolicy. ct original ip saddr: client; ct reply ip saddr, proto-src: server, its port after DNAT. In no map: not isolated";
