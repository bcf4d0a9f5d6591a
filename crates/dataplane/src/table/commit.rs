//! Sends batches, and determines whether they took effect.

use nix::errno::Errno;
use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Ruleset, TABLE};

use super::batch::{Batch, Culprit};
use super::read::find;
use super::{COMMENT, Committed, NEXT, NEXT_COMMENT, Table, batches_of, read};
use crate::Error;
use crate::netlink::{Answer, Socket};

pub(super) fn commit(table: &mut Table, operations: &[Operation], generation: Option<u32>) -> Result<Committed, Error> {
    let mut batch = Batch::new(TABLE, generation);
    batch.add(operations, &mut table.set_id)?;
    send(table, batch, operations, generation)
}

pub(super) fn replace(table: &mut Table, ruleset: &Ruleset) -> Result<Committed, Error> {
    let flags = table.flags();
    let batches = batches_of(ruleset);
    if read::has_base_chains(&mut table.socket)? {
        return rebuild(table, flags, &batches.concat());
    }
    clear_next(table)?;
    let mut batches = batches.into_iter();
    let mut done = swap(table, flags, &batches.next().unwrap_or_default())?;
    for operations in batches {
        done = done.and(commit(table, &operations, None)?);
    }
    Ok(done)
}

/// Replaces the table with another one of the same name.
///
/// The maps of the former table are empty at once for a packet that still reads its rules, and "in no map" means *not
/// isolated*. So a second table with the new rules judges packets meanwhile: it is there before the batch, and goes once
/// these packets have left.
pub(super) fn rebuild(table: &mut Table, flags: u32, operations: &[Operation]) -> Result<Committed, Error> {
    raise_next(table, flags, operations)?;
    table.wait_for_packets();
    let done = swap(table, flags, operations);
    let cleared = clear_next(table);
    let done = done?;
    // The table is replaced, but the caller must read it: that clears away the second one.
    cleared.map_err(|error| {
        tracing::debug!(%error, "the table palisade-next could not be deleted");
        Error::Unknown
    })?;
    Ok(done)
}

/// Adds the second table; one that an agent left is replaced.
pub(super) fn raise_next(table: &mut Table, flags: u32, operations: &[Operation]) -> Result<(), Error> {
    let mut batch = Batch::new(NEXT, None);
    if read::has_next(&mut table.socket)? {
        batch.delete_table();
    }
    batch.add_table(flags, NEXT_COMMENT);
    batch.add(operations, &mut table.set_id)?;
    table.may_have_next = true;
    send(table, batch, operations, None).map(drop)
}

/// Deletes the second table, if there is one.
pub(super) fn clear_next(table: &mut Table) -> Result<(), Error> {
    if !table.may_have_next {
        return Ok(());
    }
    if read::has_next(&mut table.socket)? {
        // An agent that was killed may have committed a moment ago.
        table.under_way = true;
        table.wait_for_packets();
        delete_table(table, NEXT)?;
    }
    table.may_have_next = false;
    Ok(())
}

/// Deletes the table if it exists, creates it again and fills it, all in one batch. This undoes what others did.
pub(super) fn swap(table: &mut Table, flags: u32, operations: &[Operation]) -> Result<Committed, Error> {
    let start = read::generation(&mut table.socket)?;
    let there = find(&mut table.socket)?.is_some();
    let mut batch = Batch::new(TABLE, None);
    if there {
        batch.delete_table();
    }
    batch.add_table(flags, COMMENT);
    batch.add(operations, &mut table.set_id)?;
    let done = send(table, batch, operations, None)?;
    table.others.know(done.generation, done.generation == next(start));
    Ok(done)
}

/// Restores the table, except for its content: not dormant, and with its owner.
pub(super) fn claim(table: &mut Table, flags: u32) -> Result<(), Error> {
    let mut batch = Batch::new(TABLE, None);
    batch.add_table(flags, COMMENT);
    send(table, batch, &[], None).map(|_| ())
}

pub(super) fn delete(table: &mut Table) -> Result<(), Error> {
    match delete_table(table, TABLE) {
        Ok(()) | Err(Error::Refused { errno: Errno::ENOENT, .. }) => clear_next(table),
        Err(error) => Err(error),
    }
}

fn delete_table(table: &mut Table, name: &'static str) -> Result<(), Error> {
    let mut batch = Batch::new(name, None);
    batch.delete_table();
    send(table, batch, &[], None).map(drop)
}

/// Sends a batch. When the system call returns, the kernel has acted on it and its answers have arrived. Any failure
/// after that leaves open whether the batch took effect.
fn send(table: &mut Table, batch: Batch, operations: &[Operation], at: Option<u32>) -> Result<Committed, Error> {
    let messages = batch.messages();
    let before = read::generation(&mut table.socket)?;
    if messages == 0 {
        return Ok(Committed { generation: before, ..Committed::default() });
    }
    table.others.begin(before);
    let batch = batch.finish();
    let bytes = batch.bytes.len();
    table.socket.send(&batch.bytes).map_err(|source| Error::Send { bytes, source })?;
    table.under_way = true;
    let (answers, generation) = outcome(&mut table.socket).map_err(|error| {
        tracing::debug!(%error, "the answer to a batch could not be read");
        Error::Unknown
    })?;
    match judge(&answers, at, before, generation) {
        Outcome::Done => {
            let others = generation != next(before);
            table.others.end(generation, others);
            Ok(Committed { operations: operations.len(), messages, bytes, generation, others })
        }
        Outcome::Refused { sequence, errno, offset } => {
            let Culprit { index, object, operation } = batch.culprit(operations, sequence, offset);
            Err(Error::Refused { operation, index, object, errno, hint: hint(errno) })
        }
        Outcome::Stale => Err(Error::Stale),
        Outcome::NotDone => Err(Error::Send { bytes, source: Errno::ENOBUFS.into() }),
        Outcome::Unknown => Err(Error::Unknown),
    }
}

/// The kernel's answers to a batch, and the generation after it.
fn outcome(socket: &mut Socket) -> Result<(Vec<Answer>, u32), Error> {
    let answers = socket.answers().map_err(|source| Error::Read { what: "the answer to a batch", source })?;
    Ok((answers, read::generation(socket)?))
}

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused { sequence: u32, errno: Errno, offset: Option<usize> },
    Stale,
    NotDone,
    Unknown,
}

/// The outcome of a batch that was sent for one generation or for any, from the answers that were not lost and the
/// generations before and after.
pub(super) fn judge(answers: &[Answer], at: Option<u32>, before: u32, after: u32) -> Outcome {
    // An aborted batch can have its acknowledgement too, so errors come first; the first of them caused the others.
    let refused = answers.iter().find_map(|answer| match *answer {
        Answer::Refused { sequence, errno, offset } => Some((sequence, errno, offset)),
        _ => None,
    });
    match refused {
        Some((_, Errno::ERESTART, _)) if at.is_some() => return Outcome::Stale,
        Some((sequence, errno, offset)) => return Outcome::Refused { sequence, errno, offset },
        None => {}
    }
    if answers.iter().any(|answer| matches!(answer, Answer::Done(_))) {
        return Outcome::Done;
    }
    if after == before {
        return Outcome::NotDone;
    }
    // Some batch took effect. If ours was for exactly this generation, it was ours, because it could not take effect
    // later; and if it had been too late, the only answer, which says so, would not have been lost among others.
    if at == Some(before) && after == next(before) { Outcome::Done } else { Outcome::Unknown }
}

/// The generation after one batch; 0 is skipped.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// The usual cause of an error here.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "Palisade needs CAP_NET_ADMIN, and no other process may own the table",
        Errno::ENOENT => {
            "it refers to an object that is missing: another program changed the table, or it was never created"
        }
        Errno::EEXIST => "it already exists: another program changed the table, or it was created before",
        Errno::EBUSY => "something still refers to it",
        Errno::ELOOP | Errno::EMLINK => "chains jump in a circle, or more than 16 deep",
        Errno::EOPNOTSUPP => "this kernel lacks a feature of nftables that Palisade needs",
        Errno::ENOMEM => "the kernel is out of memory",
        Errno::ERANGE => "a name or number is too long",
        _ => "this is a bug in Palisade: please report it with the object's definition",
    }
}
