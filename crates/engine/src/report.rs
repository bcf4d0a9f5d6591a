//! Events for logs and metrics.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_policy::input::{Kind, NamespacedName};

use crate::doubt::Reason;
use crate::step::Trouble;

/// The reason for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitKind {
    /// The first after start, or after an error: compares the whole ruleset with the kernel's.
    Full,
    /// Changes of objects.
    Incremental,
    /// Another program changed the table.
    Repair,
}

impl CommitKind {
    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Repair => "repair",
        }
    }
}

/// An event to log or to count.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The table matches the objects, as of [`Engine::rendered`](crate::Engine::rendered) = `rendered`.
    Committed {
        /// The reason.
        kind: CommitKind,
        /// The cause, as text.
        cause: String,
        /// Objects, elements and rules written.
        operations: usize,
        /// Batches; 0 if the table was already right.
        batches: usize,
        /// The whole table was replaced.
        replaced: bool,
        /// The number of the rendering.
        rendered: u64,
    },
    /// A step failed.
    Failed {
        /// The reason for the commit.
        kind: CommitKind,
        /// The failure.
        trouble: Trouble,
        /// Policies that are quarantined because of the failure.
        quarantined: BTreeSet<NamespacedName>,
    },
    /// Another program changed the table.
    Repairing {
        /// The kind of change, as text.
        how: &'static str,
    },
    /// The table has another layout, and is replaced whole.
    OtherLayout {
        /// The objects that cannot be changed in place.
        objects: String,
    },
    /// Namespaces are being deleted, and their policies may be gone already: their pods stay isolated as in the table.
    Frozen {
        /// The namespaces.
        namespaces: BTreeSet<Arc<str>>,
    },
    /// A policy costs more than the budget, or has too many elements: it isolates its pods and allows nothing.
    OverBudget {
        /// The policy.
        policy: NamespacedName,
        /// Its cost, and the action to take.
        why: String,
    },
    /// The kernel refuses the rules of the verdict cache: every packet is judged.
    NoVerdictCache,
    /// IPs changed hands while no agent was running.
    ChangedHands {
        /// The number of IPs.
        addresses: usize,
    },
    /// A list is not believed until a second one agrees.
    Doubted {
        /// The kind of the list.
        kind: Kind,
        /// The reason.
        reason: Reason,
        /// The number of objects it lacks.
        missing: usize,
    },
    /// The server has an object that its list lacks: the list is false.
    Contradicted {
        /// The kind of the object.
        kind: Kind,
        /// The object; a namespace's key has an empty namespace.
        object: NamespacedName,
    },
    /// A second list agreed with one that was doubted.
    Believed {
        /// The kind of the list.
        kind: Kind,
        /// The number of objects that are gone.
        gone: usize,
    },
    /// A list has the objects that the doubted one lacked: the doubt was right.
    Dispelled {
        /// The kind of the list.
        kind: Kind,
    },
    /// A quarantine ended: the group is tried again.
    Released {
        /// The policies.
        policies: BTreeSet<NamespacedName>,
    },
}
