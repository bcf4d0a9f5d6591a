//! Sending batches, and what became of them.

use nix::errno::Errno;
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::Ruleset;

use super::batch::Batch;
use super::claim::find;
use super::{Committed, Table, build, read};
use crate::Error;
use crate::codec::table_flag;
use crate::netlink::{Answer, Socket};

pub(super) fn commit(table: &mut Table, operations: &[Operation], generation: Option<u32>) -> Result<Committed, Error> {
    let mut batch = Batch::new(generation);
    batch.add(operations, &mut table.set_id)?;
    send(&mut table.socket, batch, operations, generation)
}

pub(super) fn replace(table: &mut Table, ruleset: &Ruleset) -> Result<Committed, Error> {
    let flags = if table.owned { table_flag::OWNER | table_flag::PERSIST } else { 0 };
    let (mut operations, rules) = build(ruleset);
    if read::has_base_chains(&mut table.socket)? {
        operations.extend(rules);
        return rebuild(table, flags, &operations);
    }
    let first = rebuild(table, flags, &operations)?;
    if rules.is_empty() {
        return Ok(first);
    }
    Ok(first.and(commit(table, &rules, None)?))
}

/// Deletes the table if it is there, makes it again and fills it, all in one batch.
pub(super) fn rebuild(table: &mut Table, flags: u32, operations: &[Operation]) -> Result<Committed, Error> {
    let there = find(&mut table.socket)?.is_some();
    let mut batch = Batch::new(None);
    if there {
        batch.delete_table();
    }
    batch.add_table(flags);
    batch.add(operations, &mut table.set_id)?;
    send(&mut table.socket, batch, operations, None)
}

pub(super) fn delete(socket: &mut Socket) -> Result<(), Error> {
    let mut batch = Batch::new(None);
    batch.delete_table();
    match send(socket, batch, &[], None) {
        Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Sends a batch. The kernel has acted on it when the system call returns, and its answers are there.
pub(super) fn send(
    socket: &mut Socket,
    batch: Batch,
    operations: &[Operation],
    at: Option<u32>,
) -> Result<Committed, Error> {
    let messages = batch.messages();
    let before = read::generation(socket)?;
    if messages == 0 {
        return Ok(Committed { generation: before, ..Committed::default() });
    }
    let batch = batch.finish();
    let bytes = batch.bytes.len();
    socket.send(&batch.bytes).map_err(|source| Error::Send { bytes, source })?;
    let answers = socket.answers().map_err(|source| Error::Read { what: "the answer to a batch", source })?;
    // An aborted batch can have its acknowledgement too, so errors are looked for first; the first is the cause of others.
    let refused = answers.iter().find_map(|answer| match answer {
        Answer::Refused { sequence, errno, offset } => Some((*sequence, *errno, *offset)),
        _ => None,
    });
    if let Some((sequence, errno, offset)) = refused {
        if errno == Errno::ERESTART && at.is_some() {
            return Err(Error::Stale);
        }
        let culprit = batch.culprit(operations, sequence, offset);
        let (index, operation) = (culprit.index, culprit.operation);
        return Err(Error::Refused { operation, index, errno, hint: hint(errno) });
    }
    let generation = read::generation(socket)?;
    let done = answers.iter().any(|answer| matches!(answer, Answer::Done(_)));
    // Without an answer the generation decides: only our batch could be done at the generation that it named.
    let ours = generation == next(before);
    if !done && !(at == Some(before) && ours) {
        return Err(if generation == before { lost(bytes) } else { Error::Unknown });
    }
    Ok(Committed { operations: operations.len(), messages, bytes, generation, others: !ours })
}

/// The batch was not done, and the answer that says why is lost.
fn lost(bytes: usize) -> Error {
    Error::Send { bytes, source: Errno::ENOBUFS.into() }
}

/// The generation that one batch makes of another; 0 is left out.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// What an error usually means here.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "Palisade needs CAP_NET_ADMIN, and no other process may own the table",
        Errno::ENOENT => "something it refers to is not there: somebody changed the table, or it was never made",
        Errno::EEXIST => "it is there already: somebody changed the table, or it was made before",
        Errno::EBUSY => "something still refers to it",
        Errno::ELOOP | Errno::EMLINK => "chains jump in a circle, or more than 16 deep",
        Errno::EOPNOTSUPP => "this kernel lacks a feature of nftables that Palisade needs",
        Errno::ENOMEM => "the kernel has no memory for it",
        Errno::ERANGE => "a name or number is too long",
        _ => "this is a fault of Palisade: please report it with the object's definition",
    }
}
