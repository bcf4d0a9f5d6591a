//! Performs the engine's steps on the kernel, for the agent and for the tests that prove its order.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_engine::{Class, Done, Forgotten, NodeView, Present, Step, Trouble};
use palisade_ruleset::cache::Stale;
use palisade_ruleset::model::Ruleset;

use crate::conntrack::Cleared;
use crate::host::{self, Finding, Switched};
use crate::table::{Ownership, ReadBack, Table};
use crate::{Error, conntrack};

/// What to do about bridges that bypass netfilter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeNetfilter {
    /// Turn on netfilter for the pods' bridges, whatever the setting for all bridges is.
    #[default]
    Set,
    /// Change nothing; a bridge that bypasses netfilter is a finding.
    Check,
}

/// The result of inspecting the node, beyond what a ruleset needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What prevents enforcement.
    pub findings: Vec<Finding>,
    /// The bridge on which frames with a VLAN tag bypass the rules.
    pub vlan_tags_bypass: Option<String>,
    /// Bridges for which netfilter was turned on, and the families that bypassed it.
    pub switched: Vec<(String, Switched)>,
    /// The reasons why something could not be inspected or set.
    pub failures: Vec<String>,
}

/// The kernel of the thread's network namespace. [`Step::Open`] opens the table's socket.
#[derive(Debug, Default)]
pub struct Kernel {
    ownership: Ownership,
    bridges: BridgeNetfilter,
    table: Option<Table>,
    /// Isolated IPs without an interface at the last look: at the second look they are a finding.
    without: BTreeSet<IpAddr>,
    look: Look,
}

impl Kernel {
    /// A kernel with no table open yet.
    pub fn new(ownership: Ownership, bridges: BridgeNetfilter) -> Self {
        Self { ownership, bridges, ..Self::default() }
    }

    /// The table, once it is open.
    pub fn table(&mut self) -> Option<&mut Table> {
        self.table.as_mut()
    }

    /// Passes the table to the caller; the next [`Step::Open`] opens it again.
    pub fn close(&mut self) -> Option<Table> {
        self.table.take()
    }

    /// The result of the last [`Step::Look`].
    pub fn last_look(&self) -> &Look {
        &self.look
    }

    /// Performs a step; `wanted` is the desired table. [`Step::Forget`] and [`Step::ClearStamps`] are performed in
    /// place, though they may take a while; [`Step::Ask`] has no result here.
    pub fn perform(&mut self, step: Step, wanted: &Ruleset) -> Option<Done> {
        Some(match step {
            Step::Open => Done::Opened(self.open().map_err(|error| trouble(&error))),
            Step::Look { local, isolated } => {
                Done::Looked(self.look(&local, &isolated).map_err(|error| trouble(&error)))
            }
            Step::Read => Done::Read(self.read(wanted).map_err(|error| trouble(&error))),
            Step::WaitForPackets => {
                if let Some(table) = &mut self.table {
                    table.wait_for_packets();
                }
                Done::Waited
            }
            Step::Commit(batch) => Done::Committed(self.with(|table| table.commit(&batch.operations).map(drop))),
            Step::Replace => Done::Committed(self.with(|table| table.replace(wanted).map(drop))),
            Step::Wake => Done::Committed(self.with(|table| table.wake().map(drop))),
            Step::Forget(addresses) => Done::Forgot(forget(addresses).0),
            Step::ClearStamps(stale) => Done::ClearedStamps { all: clear_stamps(stale).all },
            Step::Ask(_) => return None,
        })
    }

    fn open(&mut self) -> Result<(), Error> {
        if self.table.is_none() {
            self.table = Some(Table::open(self.ownership)?);
        }
        Ok(())
    }

    fn with(&mut self, act: impl FnOnce(&mut Table) -> Result<(), Error>) -> Result<(), Trouble> {
        let Some(table) = &mut self.table else { return Err(closed()) };
        act(table).map_err(|error| trouble(&error))
    }

    fn read(&mut self, wanted: &Ruleset) -> Result<Option<Present>, Error> {
        self.open()?;
        let Some(table) = &mut self.table else { return Ok(None) };
        let read = table.read()?;
        for (name, why) in &read.undecodable {
            tracing::warn!(object = name, why, "foreign object in table inet palisade");
        }
        if !read.exists {
            return Ok(None);
        }
        let foreign = read.unowned || differs_inexpressibly(&read, wanted);
        Ok(Some(Present { ruleset: read.ruleset, stamp: read.stamp, dormant: read.dormant, foreign }))
    }

    fn look(&mut self, local: &BTreeSet<IpAddr>, isolated: &BTreeSet<IpAddr>) -> Result<NodeView, Error> {
        let ports = host::pod_interfaces(local)?;
        let addresses = host::own_addresses()?;
        let mut look = Look::default();
        if self.bridges == BridgeNetfilter::Set {
            for bridge in host::bridges(&ports.names)? {
                match host::call_netfilter_on_bridge(&bridge) {
                    Ok(switched) if switched.ipv4 || switched.ipv6 => look.switched.push((bridge, switched)),
                    Ok(_) => {}
                    Err(error) => look.failures.push(chain(&error)),
                }
            }
        }
        look.findings = host::findings(&ports.names)?;
        // A terminating pod loses its route before the API server reports its end, so only a lasting condition is a
        // finding.
        let without: BTreeSet<_> = ports.without.intersection(isolated).copied().collect();
        let lasting = without.intersection(&self.without).copied();
        look.findings.extend(lasting.map(|address| Finding::NoInterface { address }));
        look.vlan_tags_bypass = host::passed_by_tagged_frames(&ports.names)?;
        self.without = without;
        self.look = look;
        Ok(NodeView { pod_interfaces: ports.names, addresses })
    }
}

/// Whether the table differs from `wanted` in something that a difference of rulesets does not express.
fn differs_inexpressibly(read: &ReadBack, wanted: &Ruleset) -> bool {
    let shown = palisade_ruleset::change::diff(&read.ruleset, wanted);
    shown.is_ok_and(|patch| patch.is_empty()) && !read.dormant && !read.matches(wanted)
}

/// Deletes the conntrack entries of IPs; also returns their number.
pub fn forget(addresses: BTreeSet<IpAddr>) -> (Forgotten, usize) {
    match conntrack::forget(&addresses) {
        Ok(done) => {
            let finished = addresses.difference(&done.unfinished).copied().collect();
            (Forgotten { finished, unfinished: done.unfinished }, done.flows)
        }
        Err(error) => {
            tracing::warn!(error = chain(&error), "cannot delete conntrack entries; trying again");
            (Forgotten { finished: BTreeSet::new(), unfinished: addresses }, 0)
        }
    }
}

/// Clears stamps from the marks of conntrack entries.
pub fn clear_stamps(stale: Stale) -> Cleared {
    conntrack::clear_stamps(stale).unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "cannot clear the marks of conntrack entries; trying again");
        Cleared::default()
    })
}

fn closed() -> Trouble {
    Trouble { class: Class::Stale, object: None, message: "the table is not open".to_owned() }
}

/// The error as the engine sees it.
fn trouble(error: &Error) -> Trouble {
    Trouble { class: error.kind(), object: error.object().cloned(), message: chain(error) }
}

/// An error with its causes, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}
