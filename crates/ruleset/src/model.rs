//! The model of the table `inet palisade`: a closed list of object kinds and expressions, which the text form, the JSON
//! form, the netlink form and the packet walk all cover.

mod expression;
mod object;

pub use expression::{CtStates, Expression, L4, Load, PacketType, Test, Verdict};
pub use object::{Chain, Element, Field, Hook, Key, KeyType, Rule, Ruleset, Set, SetKind};

/// The one table, of family `inet`; nothing outside it is read or written.
pub const TABLE: &str = "palisade";

/// The table's comment: a legend. The kernel cannot change it in place.
pub const TABLE_COMMENT: &str = "Kubernetes NetworkPolicy by palisade. ct original saddr: client; ct reply saddr: server (after DNAT). In no map: not isolated";

/// Names of sets, maps, chains and counters have at most this many bytes (kernel: NFT_NAME_MAXLEN 256 with its NUL).
pub const MAX_NAME: usize = 255;

/// Comments of rules and elements have at most this many bytes (nft 1.0.6 rejects more).
pub const MAX_COMMENT: usize = 128;
