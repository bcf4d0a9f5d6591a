//! The real kernel, by netlink.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_dataplane::table::{ForeignChanges, Ownership, Table};
use palisade_dataplane::{Error, Trouble, conntrack, host};
use palisade_ruleset::change::Transaction;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;

use super::{Kernel, KernelError, Survey};
use crate::output::chain;

/// The kernel of the network namespace that the thread is in. The table's socket is opened when the loop first needs it.
#[derive(Default)]
pub(crate) struct Netlink {
    table: Option<Table>,
}

impl Netlink {
    /// No socket yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn table(&mut self) -> Result<&mut Table, KernelError> {
        self.table.as_mut().ok_or_else(|| KernelError { message: "the table is not open".to_owned(), object: None })
    }
}

impl Kernel for Netlink {
    fn open(&mut self) -> Result<(), KernelError> {
        if self.table.is_none() {
            self.table = Some(Table::open(Ownership::Automatic).map_err(|error| plain(&error))?);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Ruleset>, KernelError> {
        let table = self.table()?;
        if !table.exists().map_err(|error| plain(&error))? {
            return Ok(None);
        }
        let read = table.read().map_err(|error| plain(&error))?;
        for (name, why) in &read.undecodable {
            tracing::warn!(object = name, why, "not one of ours in table inet palisade");
        }
        Ok(Some(read.ruleset))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        self.table()?.commit_transaction(transaction).map_err(|error| plain(&error))?;
        Ok(())
    }

    fn wait_for_packets(&mut self) {
        if let Some(table) = &mut self.table {
            table.wait_for_packets();
        }
    }

    fn replace(&mut self, ruleset: &Ruleset) -> Result<(), KernelError> {
        self.table()?.replace(ruleset).map_err(|error| plain(&error))?;
        Ok(())
    }

    fn may_have_changed(&mut self) -> Result<bool, KernelError> {
        self.table()?.changed_by_others().map_err(|error| plain(&error))
    }

    fn foreign_changes(&mut self) -> Result<Option<ForeignChanges>, KernelError> {
        let table = self.table()?;
        if table.is_owned() {
            return Ok(None);
        }
        table.foreign_changes().map(Some).map_err(|error| plain(&error))
    }

    fn counters(&mut self) -> Result<BTreeMap<Name, (u64, u64)>, KernelError> {
        let counters = self.table()?.counters().map_err(|error| plain(&error))?;
        Ok(counters.into_iter().map(|(name, count)| (name, (count.packets, count.bytes))).collect())
    }

    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
        let forgotten = conntrack::forget(addresses).map_err(|error| plain(&error))?;
        if !forgotten.unfinished.is_empty() {
            let message = format!("flows of {:?} are left", forgotten.unfinished);
            return Err(KernelError { message, object: None });
        }
        Ok(forgotten.flows)
    }

    fn survey(&mut self, local: &BTreeSet<IpAddr>) -> Result<Survey, KernelError> {
        let pod_ports = host::pod_ports(local).map_err(|error| plain(&error))?.names;
        let addresses = host::own_addresses().map_err(|error| plain(&error))?;
        let findings = host::findings(&pod_ports).map_err(|error| plain(&error))?;
        let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
        let obstacle = (!findings.is_empty()).then(|| findings.join("; "));
        let tags_pass_on = host::passed_by_tagged_frames(&pod_ports).map_err(|error| plain(&error))?;
        Ok(Survey { pod_ports, addresses, obstacle, tags_pass_on })
    }
}

/// The error, with the object that the kernel does not take if it is that.
fn plain(error: &Error) -> KernelError {
    let object = error.object().filter(|_| error.kind() == Trouble::Object);
    KernelError { message: chain(error), object: object.cloned() }
}
