//! What is to be done next, and what came of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::{Kind, NamespacedName};
use palisade_ruleset::change::Batch;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;

/// One thing to do. Each but [`Step::Ask`] and [`Step::Forget`] is followed by its [`Done`] before there is another.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Take hold of the table, without changing what packets meet.
    Open,
    /// Look at the node.
    Look {
        /// The addresses of its pods.
        local: BTreeSet<IpAddr>,
        /// Those that policies isolate.
        isolated: BTreeSet<IpAddr>,
    },
    /// Read the table back.
    Read,
    /// Wait until the packets have left that were under way at the last commit.
    WaitForPackets,
    /// Commit a batch, which takes effect at once or not at all.
    Commit(Batch),
    /// Put [`Engine::ruleset`](crate::Engine::ruleset) in the place of whatever the table holds.
    Replace,
    /// Have the table's chains judge packets again, which somebody switched off.
    Wake,
    /// Delete the conntrack entries of these addresses. It may take its time: other steps follow meanwhile, and
    /// [`Done::Forgot`] may come at any moment.
    Forget(BTreeSet<IpAddr>),
    /// Ask the source of objects. The answer, if there is one, is an [`Input`](crate::Input).
    Ask(Ask),
}

/// A question to the source of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// List this kind again, some seconds from now.
    ListAgain(Kind),
    /// Is this namespace there, and is it terminating?
    Namespace(Arc<str>),
    /// Is this object there, which a list lacks?
    Object {
        /// Of what kind it is.
        kind: Kind,
        /// Its name; a namespace has no namespace.
        key: NamespacedName,
    },
}

/// What came of a step.
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
}

/// The table as it is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// What it holds.
    pub ruleset: Ruleset,
    /// Somebody switched its chains off (flag `dormant`).
    pub dormant: bool,
    /// Something differs that [`Present::ruleset`] cannot express: the table has to be replaced whole.
    pub foreign: bool,
}

/// What the node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The interfaces that the routes to local pods leave by.
    pub pod_interfaces: BTreeSet<String>,
    /// The node's own addresses, which no pod can have.
    pub addresses: BTreeSet<IpAddr>,
}

/// Which conntrack entries were deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Of which addresses all entries are gone.
    pub finished: BTreeSet<IpAddr>,
    /// Of which some may be left: they are due again.
    pub unfinished: BTreeSet<IpAddr>,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What to do about it.
    pub class: Class,
    /// The object that the kernel refused, if it named one.
    pub object: Option<Name>,
    /// What failed, where and why, in one line.
    pub message: String,
}

/// What kind of trouble it is, which decides what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The kernel does not take this object, now or later: its policies are quarantined. If no object is named, the batch as
    /// a whole was refused.
    Object,
    /// The table is not what it was thought to be: it is read back. A kernel that lacks a module of nftables answers the same
    /// (ENOENT), so what is refused again and again after readings is the object's fault.
    Stale,
    /// The kernel or the process lacks memory or buffers. Nothing was done; it is tried again.
    Resources,
    /// A right is missing.
    Denied,
    /// Another live process owns the table: it is taken over as soon as that ends.
    Owned,
    /// The answer was lost; the table is read back.
    Unknown,
}
