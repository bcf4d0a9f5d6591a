//! The one table, `inet palisade`: opened, read back, changed in atomic batches.
//!
//! All changes use one socket, which owns the table if the kernel supports owners (Linux 6.9 and later): no other
//! process can then change or flush the table, and it stays when the agent ends. The next agent adopts it. Use it from
//! one thread.

mod batch;
mod claim;
mod commit;
mod foreign;
mod others;
mod owner;
mod read;
mod show;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

use palisade_ruleset::cache::{self, Stamp};
use palisade_ruleset::change::{Operation, Transaction, diff};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;

use crate::Error;
use crate::netlink::Socket;
use crate::packets::Packets;

pub use foreign::ForeignChanges;
use others::Others;
pub use show::{PacketsAndBytes, Shown};

/// The comment of the table.
pub const COMMENT: &str = palisade_ruleset::model::TABLE_COMMENT;

/// A second table with the new rules, there while the table is replaced.
const NEXT: &str = "palisade-next";

/// The comment of the second table.
const NEXT_COMMENT: &str =
    "New rules of table palisade while that is replaced; gone within a second, or when the agent next reads the table";

/// Whether the table is to have an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// An owner if the kernel supports owners that may die, otherwise a plain table.
    #[default]
    Automatic,
    /// A plain table, which anyone may change.
    Plain,
}

/// The table, open for changes. Dropping it leaves the table in the kernel.
#[derive(Debug)]
pub struct Table {
    socket: Socket,
    owned: bool,
    set_id: u32,
    others: Others,
    /// Packets in flight may have seen the table before its last change.
    under_way: bool,
    packets: Packets,
    /// A second table may be there, of this agent or of one that was killed.
    may_have_next: bool,
}

/// The table in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// The table as a ruleset. A chain with a foreign rule has one empty rule instead of its rules; a foreign set or
    /// chain has a structure that ours never have. Both differ from anything rendered. It has no rules of the verdict
    /// cache.
    pub ruleset: Ruleset,
    /// The stamp in the rules of the verdict cache, if it has any.
    pub stamp: Option<Stamp>,
    /// Foreign objects, and what makes them foreign.
    pub undecodable: BTreeMap<String, String>,
    /// The generation of nftables at or before which this was true.
    pub generation: u32,
    /// There is a table.
    pub exists: bool,
    /// Another program made the table dormant: its content is right, but packets bypass it. [`Table::wake`] helps.
    pub dormant: bool,
    /// The table lost its owner. [`Table::wake`] helps, or [`Table::replace`] if another program created a new table in
    /// its place.
    ///
    /// The kernel may mistake a socket that another thread is closing for the owner of the table, if it got the same
    /// port: the port is released before the socket's tables are looked up (`netlink_release`).
    pub unowned: bool,
}

/// The figures of a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Operations.
    pub operations: usize,
    /// Messages sent.
    pub messages: usize,
    /// Bytes sent.
    pub bytes: usize,
    /// The generation of nftables after it.
    pub generation: u32,
    /// Another program changed nftables (not necessarily this table) around the commit.
    pub others: bool,
}

/// The packets and bytes of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Table {
    /// Opens the table; creates an empty one if there is none. A table left by a dead agent is adopted as it is.
    ///
    /// A plain table is rebuilt with an owner, in one batch, if an owner is wanted and everything in it is ours;
    /// otherwise it stays plain.
    ///
    /// # Errors
    /// [`Error::Owned`] if another live process owns it; failures to talk to the kernel.
    pub fn open(ownership: Ownership) -> Result<Self, Error> {
        claim::open(ownership)
    }

    /// Whether this value owns the table: then nothing else can change it.
    pub fn is_owned(&self) -> bool {
        self.owned
    }

    /// Whether the table exists; another program may have deleted a plain one.
    ///
    /// # Errors
    /// Failures to talk to the kernel.
    pub fn exists(&mut self) -> Result<bool, Error> {
        Ok(read::find(&mut self.socket)?.is_some())
    }

    /// Reads the table back, without the values of counters. If a replacement was cut short, it is cleared away first.
    ///
    /// # Errors
    /// [`Error::Read`]; what [`Table::commit`] has, if there was something to clear away.
    pub fn read(&mut self) -> Result<ReadBack, Error> {
        commit::clear_next(self)?;
        let mut found = read::read(&mut self.socket, self.owned)?;
        found.stamp = cache::take(&mut found.ruleset);
        self.others.read(found.generation);
        Ok(found)
    }

    /// Whether another program may have written to nftables (not necessarily to this table) since the table was last read,
    /// writes around our own commits included. It stays true until [`Table::read`] succeeds. Nothing else can change a
    /// table that has an owner, so this only checks that it still has one.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn changed_by_others(&mut self) -> Result<bool, Error> {
        if self.owned {
            return Ok(!read::state(&mut self.socket)?.is_some_and(|state| state.is_owned_by(&self.socket)));
        }
        Ok(self.others.wrote(read::generation(&mut self.socket)?))
    }

    /// Restores the table if another program made it dormant, or if it lost its owner; returns whether anything was
    /// wrong. The content stays.
    ///
    /// # Errors
    /// As [`Table::commit`]. A table that another program created in place of ours cannot get an owner (EOPNOTSUPP):
    /// [`Table::replace`] helps.
    pub fn wake(&mut self) -> Result<bool, Error> {
        let Some(state) = read::state(&mut self.socket)? else { return Ok(false) };
        let unowned = self.owned && !state.is_owned_by(&self.socket);
        if !state.dormant && !unowned {
            return Ok(false);
        }
        let flags = state.awake | self.flags();
        commit::claim(self, flags)?;
        Ok(true)
    }

    fn with(socket: Socket) -> Self {
        Self {
            socket,
            owned: false,
            set_id: 0,
            others: Others::default(),
            under_way: false,
            packets: Packets::new(),
            may_have_next: true,
        }
    }

    /// The flags that the table should have.
    fn flags(&self) -> u32 {
        if self.owned { read::OWNED } else { 0 }
    }

    /// The generation of nftables in this network namespace: every batch of any program adds one.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn generation(&mut self) -> Result<u32, Error> {
        read::generation(&mut self.socket)
    }

    /// The values of the named counters.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn counters(&mut self) -> Result<BTreeMap<Name, Count>, Error> {
        read::counters(&mut self.socket)
    }

    /// Commits operations as one batch, at once (the caller calls [`Table::wait_for_packets`] first): packets meet the
    /// table before it or after it, and an error (other than [`Error::Unknown`]) means that nothing changed.
    ///
    /// # Errors
    /// [`Error::Refused`] names the faulty object; [`Error::Unencodable`], [`Error::Send`], [`Error::Unknown`].
    /// [`Error::kind`] decides the reaction.
    pub fn commit(&mut self, operations: &[Operation]) -> Result<Committed, Error> {
        commit::commit(self, operations, None)
    }

    /// Like [`Table::commit`], if no other program has changed nftables since the given generation.
    ///
    /// # Errors
    /// [`Error::Stale`] if one has; otherwise as [`Table::commit`].
    pub fn commit_at(&mut self, operations: &[Operation], generation: u32) -> Result<Committed, Error> {
        commit::commit(self, operations, Some(generation))
    }

    /// Commits the batches of a transaction, one after the other. Before the first, and before those that require it,
    /// it waits until packets in flight have left. The figures are sums.
    ///
    /// # Errors
    /// [`Error::Step`] says which batch failed; those before it took effect.
    pub fn commit_transaction(&mut self, transaction: &Transaction) -> Result<Committed, Error> {
        let mut sum = Committed::default();
        self.wait_for_packets();
        for batch in transaction.batches() {
            if batch.waits {
                self.wait_for_packets();
            }
            let done = self
                .commit(&batch.operations)
                .map_err(|source| Error::Step { step: batch.name, source: Box::new(source) })?;
            sum = sum.and(done);
        }
        Ok(sum)
    }

    /// Waits until the packets that were in flight at the last batch have left; returns at once if that was done
    /// already. The next transaction waits anyway; after a wait now it begins at once.
    pub fn wait_for_packets(&mut self) {
        if std::mem::take(&mut self.under_way) {
            self.packets.leave();
        }
    }

    /// Replaces whatever the table holds with a ruleset. Over a table with base chains this is one batch, and a second
    /// table with the same rules judges the packets in flight at it. Without base chains it is planned like any other
    /// change: everything, with base chains still empty; then their rules.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub fn replace(&mut self, ruleset: &Ruleset) -> Result<Committed, Error> {
        commit::replace(self, ruleset)
    }

    /// Deletes the table and everything in it.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub fn delete(mut self) -> Result<(), Error> {
        commit::delete(&mut self)
    }
}

/// Deletes the table if it exists and no live process owns it; returns whether it existed.
///
/// # Errors
/// [`Error::Owned`] if an agent is running; failures to talk to the kernel.
pub fn cleanup() -> Result<bool, Error> {
    claim::cleanup()
}

/// A description of the process that owns the table; `None` if no live process does.
///
/// # Errors
/// Failures to talk to the kernel.
pub fn owner() -> Result<Option<String>, Error> {
    claim::live_owner()
}

/// The table with the values of its counters, read without a claim on it; `None` if there is no table.
///
/// # Errors
/// [`Error::Read`].
pub fn show() -> Result<Option<Shown>, Error> {
    show::show()
}

impl ReadBack {
    /// Whether packets meet exactly what they should. Extra counters do not matter: they change no verdict, and a
    /// difference leaves them. If this is false and [`diff`] finds nothing, the table has something that only [`Table::replace`] removes, such as a chain with a name that ours never have.
    pub fn matches(&self, wanted: &Ruleset) -> bool {
        self.exists
            && !self.dormant
            && !self.unowned
            && self.undecodable.is_empty()
            && self.ruleset.sets == wanted.sets
            && self.ruleset.chains == wanted.chains
            && self.ruleset.counters.is_superset(&wanted.counters)
    }
}

impl Committed {
    /// The sum with the next commit.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            operations: self.operations + next.operations,
            messages: self.messages + next.messages,
            bytes: self.bytes + next.bytes,
            generation: next.generation,
            others: self.others || next.others,
        }
    }
}

/// The batches that fill an empty table.
fn batches_of(ruleset: &Ruleset) -> Vec<Vec<Operation>> {
    // Nothing is incompatible with an empty ruleset.
    let patch = diff(&Ruleset::default(), ruleset).unwrap_or_default();
    let batches = patch.plan(ruleset).into_batches().map(|batch| batch.operations);
    let mut batches: Vec<Vec<Operation>> = batches.collect();
    // `nft` lists chains in the order of their creation, and a reader begins where packets do. While base chains are empty
    // they do nothing.
    let is_base =
        |operation: &mut Operation| matches!(operation, Operation::AddChain(_, chain) if chain.hook.is_some());
    let base: Vec<_> = batches.iter_mut().flat_map(|batch| batch.extract_if(.., is_base).collect::<Vec<_>>()).collect();
    if let Some(first) = batches.first_mut() {
        first.splice(0..0, base);
    }
    batches
}
