//! Claims the table.

use nix::errno::Errno;

use super::read::{Found, OWNED, find};
use super::{Ownership, Table, batches_of, commit, owner, read};
use crate::Error;
use crate::netlink::{NETFILTER, Socket};

fn socket() -> Result<Socket, Error> {
    Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source })
}

pub(super) fn open(ownership: Ownership) -> Result<Table, Error> {
    let mut table = Table::with(socket()?);
    match (find(&mut table.socket)?, ownership) {
        (Some(Found::Owned(port)), _) => return Err(Error::Owned { owner: owner::describe(port) }),
        (Some(Found::Plain | Found::Orphan), Ownership::Plain) => {}
        (None, Ownership::Plain) => create(&mut table, 0)?,
        (None, Ownership::Automatic) => match create(&mut table, OWNED) {
            Err(error) if unsupported(&error) => create(&mut table, 0)?,
            result => result?,
        },
        (Some(Found::Orphan), Ownership::Automatic) => create(&mut table, OWNED)?,
        (Some(Found::Plain), Ownership::Automatic) => rebuild(&mut table)?,
    }
    Ok(table)
}

/// Creates the table, or adopts it.
fn create(table: &mut Table, flags: u32) -> Result<(), Error> {
    commit::claim(table, flags)?;
    table.owned = flags == OWNED;
    Ok(())
}

/// A plain table cannot get an owner (EOPNOTSUPP), but it can be deleted and created again in one batch.
fn rebuild(table: &mut Table) -> Result<(), Error> {
    let found = read::read(&mut table.socket, false)?;
    if !found.undecodable.is_empty() {
        tracing::warn!(objects = ?found.undecodable, "table inet palisade has objects of another program; not taking ownership");
        return Ok(());
    }
    match commit::rebuild(table, OWNED, &batches_of(&found.ruleset).concat()) {
        Ok(_) => table.owned = true,
        Err(error) if unsupported(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Whether the kernel does not support owners, or not owners that may die.
fn unsupported(error: &Error) -> bool {
    matches!(error, Error::Refused { errno: Errno::EOPNOTSUPP | Errno::EINVAL, index: None, .. })
}

pub(super) fn live_owner() -> Result<Option<String>, Error> {
    Ok(match find(&mut socket()?)? {
        Some(Found::Owned(port)) => Some(owner::describe(port)),
        _ => None,
    })
}

pub(super) fn cleanup() -> Result<bool, Error> {
    let mut table = Table::with(socket()?);
    let found = find(&mut table.socket)?;
    if let Some(Found::Owned(port)) = found {
        return Err(Error::Owned { owner: owner::describe(port) });
    }
    commit::delete(&mut table)?;
    Ok(found.is_some())
}
