//! Finds the table, and claims it.

use nix::errno::Errno;
use palisade_ruleset::model::TABLE;

use super::batch::nfgenmsg;
use super::{Ownership, Table, build, commit, owner, read};
use crate::Error;
use crate::codec::{attribute, family, kind, table_flag};
use crate::netlink::{Attributes, Socket};

/// `NETLINK_NETFILTER`.
pub(super) const NETFILTER: isize = 12;

/// The table as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Anybody may change it.
    Plain,
    /// Its owner is gone.
    Orphan,
    /// The socket of this port owns it.
    Owned(u32),
}

pub(super) const OWNED: u32 = table_flag::OWNER | table_flag::PERSIST;

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) found: Found,
    /// None of its chains is hooked.
    pub(super) dormant: bool,
    /// Its flags if it were not dormant.
    pub(super) awake: u32,
}

impl State {
    /// Whether only this socket can change the table.
    pub(super) fn is_owned_by(self, socket: &Socket) -> bool {
        self.found == Found::Owned(socket.port())
    }
}

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
    let (mut operations, rules) = build(&found.ruleset);
    operations.extend(rules);
    match commit::rebuild(table, OWNED, &operations) {
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

/// The table, if there is one, and its owner.
pub(super) fn find(socket: &mut Socket) -> Result<Option<Found>, Error> {
    Ok(state(socket)?.map(|state| state.found))
}

/// The table, if there is one.
pub(super) fn state(socket: &mut Socket) -> Result<Option<State>, Error> {
    let answer = socket.request(kind::GET_TABLE, 0, |writer| {
        nfgenmsg(writer, family::INET, 0);
        writer.string(attribute::table::NAME, TABLE);
    });
    let bodies = match answer {
        Ok(bodies) => bodies,
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(None),
        Err(source) => return Err(Error::Read { what: "table inet palisade", source }),
    };
    let table = Attributes::after(bodies.first().map(Vec::as_slice).unwrap_or_default(), 4);
    let malformed = || Error::Read {
        what: "table inet palisade",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "no flags in the answer"),
    };
    let flags = table.be32(attribute::table::FLAGS).ok_or_else(malformed)?;
    let found = match table.be32(attribute::table::OWNER) {
        Some(port) if flags & table_flag::OWNER != 0 => Found::Owned(port),
        _ if flags & table_flag::PERSIST != 0 => Found::Orphan,
        _ => Found::Plain,
    };
    Ok(Some(State { found, dormant: flags & table_flag::DORMANT != 0, awake: flags & OWNED }))
}

pub(super) fn live_owner() -> Result<Option<String>, Error> {
    Ok(match find(&mut socket()?)? {
        Some(Found::Owned(port)) => Some(owner::describe(port)),
        _ => None,
    })
}

pub(super) fn cleanup() -> Result<bool, Error> {
    let mut table = Table::with(socket()?);
    match find(&mut table.socket)? {
        None => Ok(false),
        Some(Found::Owned(port)) => Err(Error::Owned { owner: owner::describe(port) }),
        Some(Found::Plain | Found::Orphan) => commit::delete(&mut table).map(|()| true),
    }
}
