//! What happened, for logs and metrics.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_policy::input::{Kind, NamespacedName};

use crate::doubt::Reason;
use crate::step::Trouble;

/// Why a commit was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitKind {
    /// The first after start, or after an error: the whole ruleset against the kernel's.
    Full,
    /// What events changed.
    Incremental,
    /// Somebody else changed the table.
    Repair,
}

impl CommitKind {
    /// As metrics and logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Repair => "repair",
        }
    }
}

/// Something to log or to count.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The table is what the objects say, as of [`Engine::rendered`](crate::Engine::rendered) = `rendered`.
    Committed {
        /// Why.
        kind: CommitKind,
        /// What brought it about, in words.
        cause: String,
        /// Objects, elements and rules written.
        operations: usize,
        /// Batches; none if the table was so already.
        batches: usize,
        /// The table was replaced whole.
        replaced: bool,
        /// Which rendering it is.
        rendered: u64,
    },
    /// A step failed.
    Failed {
        /// Why a commit was to be made.
        kind: CommitKind,
        /// What happened.
        trouble: Trouble,
        /// Policies that are quarantined because of it.
        quarantined: BTreeSet<NamespacedName>,
    },
    /// The table was changed by somebody else.
    Repairing {
        /// How, in words.
        how: &'static str,
    },
    /// The table is of another layout, and is replaced whole.
    OtherLayout {
        /// The objects that cannot be changed in place.
        objects: String,
    },
    /// Namespaces are being deleted whose policies may be gone already: their pods stay isolated as the table has them.
    Frozen {
        /// The namespaces.
        namespaces: BTreeSet<Arc<str>>,
    },
    /// A policy costs more than the budget, or stands for too many elements: it isolates its pods and allows nothing.
    OverBudget {
        /// The policy.
        policy: NamespacedName,
        /// What it costs, and what to do.
        why: String,
    },
    /// Addresses changed hands while no agent was running.
    ChangedHands {
        /// How many.
        addresses: usize,
    },
    /// A list is not believed until a second one agrees.
    Doubted {
        /// Of what.
        kind: Kind,
        /// Why.
        reason: Reason,
        /// How many objects it lacks.
        missing: usize,
    },
    /// The server has an object that its list lacks: the list is false.
    Contradicted {
        /// Of what kind.
        kind: Kind,
        /// The object; a namespace has no namespace.
        object: NamespacedName,
    },
    /// A second list agreed with one that was doubted.
    Believed {
        /// Of what.
        kind: Kind,
        /// How many objects are gone.
        gone: usize,
    },
    /// A list is what was known before: the doubt about the last one was right.
    Dispelled {
        /// Of what.
        kind: Kind,
    },
    /// A quarantine is over: the kernel took the objects.
    Released {
        /// The policies.
        policies: BTreeSet<NamespacedName>,
    },
}
