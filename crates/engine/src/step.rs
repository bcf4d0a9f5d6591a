//! The steps that the engine asks for, and their results.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::{Kind, NamespacedName};
use palisade_ruleset::cache::{Stale, Stamp};
use palisade_ruleset::change::Batch;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;

/// One step. Each needs its [`Done`] before the next one, except [`Step::Ask`], [`Step::Forget`] and
/// [`Step::ClearStamps`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Open or adopt the table, without any effect on packets.
    Open,
    /// Look at the node.
    Look {
        /// The IPs of its pods.
        local: BTreeSet<IpAddr>,
        /// The IPs that policies isolate.
        isolated: BTreeSet<IpAddr>,
    },
    /// Read the table.
    Read,
    /// Wait until packets in flight at the last commit have left.
    WaitForPackets,
    /// Commit a batch, which takes effect at once or not at all.
    Commit(Batch),
    /// Replace the whole table with [`Engine::ruleset`](crate::Engine::ruleset).
    Replace,
    /// Remove the flag `dormant` from the table, so that its chains judge packets again.
    Wake,
    /// Delete the conntrack entries of these IPs. Other steps follow meanwhile, and [`Done::Forgot`] may come at any
    /// time.
    Forget(BTreeSet<IpAddr>),
    /// Remove stamps from the marks of conntrack entries. Other steps follow meanwhile, and [`Done::ClearedStamps`] may
    /// come at any time.
    ClearStamps(Stale),
    /// Ask the source of objects. The answer, if there is one, is an [`Input`](crate::Input).
    Ask(Ask),
}

/// A question to the source of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// List this kind again, some seconds from now.
    ListAgain(Kind),
    /// Does this namespace exist, and is it terminating?
    Namespace(Arc<str>),
    /// Does this object exist, which a list lacks?
    Object {
        /// The kind.
        kind: Kind,
        /// The name; a namespace's key has an empty namespace.
        key: NamespacedName,
    },
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Of [`Step::Open`].
    Opened(Result<(), Trouble>),
    /// Of [`Step::Look`].
    Looked(Result<NodeView, Trouble>),
    /// Of [`Step::Read`]; none if there is no table.
    Read(Result<Option<Present>, Trouble>),
    /// Of [`Step::WaitForPackets`].
    Waited,
    /// Of [`Step::Commit`], [`Step::Replace`] and [`Step::Wake`].
    Committed(Result<(), Trouble>),
    /// Of [`Step::Forget`].
    Forgot(Forgotten),
    /// Of [`Step::ClearStamps`].
    ClearedStamps {
        /// No entry has such a stamp any more.
        all: bool,
    },
}

/// The table as it is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Its content, without the rules of the verdict cache.
    pub ruleset: Ruleset,
    /// The stamp in the rules of the verdict cache, if it has any.
    pub stamp: Option<Stamp>,
    /// Another program switched its chains off (flag `dormant`).
    pub dormant: bool,
    /// A difference that [`Present::ruleset`] cannot express: the table must be replaced whole.
    pub foreign: bool,
}

/// The state of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The interfaces that routes to local pods use.
    pub pod_interfaces: BTreeSet<String>,
    /// The node's own IPs, which no pod can have.
    pub addresses: BTreeSet<IpAddr>,
}

/// Which conntrack entries were deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The IPs whose entries are all gone.
    pub finished: BTreeSet<IpAddr>,
    /// The IPs that may have entries left: they are due again.
    pub unfinished: BTreeSet<IpAddr>,
}

/// The failure of a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// The class, which decides the reaction.
    pub class: Class,
    /// The object that the kernel refused, if it named one.
    pub object: Option<Name>,
    /// The operation, the place and the cause, in one line.
    pub message: String,
}

/// The class of a failure, which decides the reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The kernel refuses this object, now and later: its policies are quarantined. If no object is named, it refused
    /// the whole batch.
    Object,
    /// The table differs from the engine's copy: the engine reads it. A kernel that lacks a module of nftables answers
    /// the same (ENOENT), so an object that is refused repeatedly after readings is itself at fault.
    Stale,
    /// The kernel or the process lacks memory or buffers. Nothing was changed; the step is retried.
    Resources,
    /// A right is missing.
    Denied,
    /// Another live process owns the table: the agent takes over as soon as that process ends.
    Owned,
    /// The answer was lost; the engine reads the table.
    Unknown,
}
