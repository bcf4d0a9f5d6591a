//! What the loop needs of the kernel. The kernel itself implements it in `kernel/netlink.rs`; tests implement faults that
//! cannot be caused otherwise.

mod netlink;

pub(crate) use netlink::Netlink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_dataplane::table::ForeignChanges;
use palisade_ruleset::change::Transaction;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;

/// Why the kernel did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct KernelError {
    /// What failed, where and why, in one line.
    pub(crate) message: String,
    /// The object that the kernel refused, if it told.
    pub(crate) object: Option<Name>,
}

/// What the node itself says about its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The interfaces that the routes to local pods leave by.
    pub(crate) pod_ports: BTreeSet<String>,
    /// The node's own addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Why enforcement could not work here, if so.
    pub(crate) obstacle: Option<String>,
    /// The bridge on which frames with a VLAN tag pass by the rules, if there is one.
    pub(crate) tags_pass_on: Option<String>,
}

/// The kernel's side.
pub(crate) trait Kernel {
    /// Takes hold of the table, without changing what packets meet.
    fn open(&mut self) -> Result<(), KernelError>;
    /// The table as it is; `None` if there is none.
    fn read(&mut self) -> Result<Option<Ruleset>, KernelError>;
    /// Commits the batches in order. After an error what the table is must be read.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), KernelError>;
    /// Waits until the packets have left that were under way at the last commit.
    fn wait_for_packets(&mut self);
    /// Makes the table this one, whatever it is.
    fn replace(&mut self, ruleset: &Ruleset) -> Result<(), KernelError>;
    /// Whether somebody else may have changed the table since the last commit or read.
    fn may_have_changed(&mut self) -> Result<bool, KernelError>;
    /// Changes of the table by others, unless it has an owner.
    fn foreign_changes(&mut self) -> Result<Option<ForeignChanges>, KernelError>;
    /// Packets and bytes of the named counters.
    fn counters(&mut self) -> Result<BTreeMap<Name, (u64, u64)>, KernelError>;
    /// Forgets the flows of addresses that left their pods; how many there were.
    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError>;
    /// Looks at the node, whose pods have these addresses.
    fn survey(&mut self, local: &BTreeSet<IpAddr>) -> Result<Survey, KernelError>;
}
