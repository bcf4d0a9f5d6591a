//! Reads the table back.

use std::collections::BTreeMap;

use nix::errno::Errno;
use palisade_ruleset::model::{Chain, Element, Key, KeyType, Rule, Ruleset, Set, SetKind, TABLE};
use palisade_ruleset::name::Name;

use super::{Count, NEXT, ReadBack};
use crate::Error;
use crate::codec::{
    SetShape, decode_chain, decode_counter, decode_elements, decode_rule, decode_set, msg, nfgenmsg, nfproto, nft, nfta,
};
use crate::netlink::{Attributes, Socket, Writer};

/// Each dump is of one generation, but there are several dumps. If other programs keep changing nftables, a reading
/// that spans generations is accepted after this many attempts: the others mostly write to other tables. It counts as
/// one of its first generation, so the next check ([`super::Others`]) finds that others have written, and reads again.
const TRIES: usize = 5;

/// The table as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Any program may change it.
    Plain,
    /// Its owner is gone.
    Orphan,
    /// The socket of this port owns it.
    Owned(u32),
}

/// The flags of a table with an owner.
pub(super) const OWNED: u32 = nft::TABLE_F_OWNER | nft::TABLE_F_PERSIST;

/// The state of a table.
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

/// The owner of the table, if there is a table.
pub(super) fn find(socket: &mut Socket) -> Result<Option<Found>, Error> {
    Ok(state(socket)?.map(|state| state.found))
}

/// The table, if there is one.
pub(super) fn state(socket: &mut Socket) -> Result<Option<State>, Error> {
    state_of(socket, TABLE)
}

/// Whether a second table is there, from a replacement that is going on or was cut short.
pub(super) fn has_next(socket: &mut Socket) -> Result<bool, Error> {
    Ok(state_of(socket, NEXT)?.is_some())
}

fn state_of(socket: &mut Socket, table: &str) -> Result<Option<State>, Error> {
    let answer = socket.request(msg::GETTABLE, 0, |writer| {
        nfgenmsg(writer, nfproto::INET, 0);
        writer.string(nfta::TABLE_NAME, table);
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
    let flags = table.be32(nfta::TABLE_FLAGS).ok_or_else(malformed)?;
    let found = match table.be32(nfta::TABLE_OWNER) {
        Some(port) if flags & nft::TABLE_F_OWNER != 0 => Found::Owned(port),
        _ if flags & nft::TABLE_F_PERSIST != 0 => Found::Orphan,
        _ => Found::Plain,
    };
    Ok(Some(State { found, dormant: flags & nft::TABLE_F_DORMANT != 0, awake: flags & OWNED }))
}

pub(super) fn generation(socket: &mut Socket) -> Result<u32, Error> {
    let bodies = socket
        .request(msg::GETGEN, 0, |writer| nfgenmsg(writer, 0, 0))
        .map_err(|source| Error::Read { what: "the generation of nftables", source })?;
    let id = bodies.first().and_then(|body| Attributes::after(body, 4).be32(nfta::GEN_ID));
    let malformed = || Error::Read {
        what: "the generation of nftables",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "no generation in the answer"),
    };
    id.ok_or_else(malformed)
}

/// Reads the table, which should have an owner or not.
pub(super) fn read(socket: &mut Socket, owned: bool) -> Result<ReadBack, Error> {
    let mut before = generation(socket)?;
    let mut tries = 0;
    loop {
        let mut found = read_once(socket, owned)?;
        let after = generation(socket)?;
        tries += 1;
        if after == before || tries == TRIES {
            found.generation = before;
            return Ok(found);
        }
        before = after;
    }
}

fn read_once(socket: &mut Socket, owned: bool) -> Result<ReadBack, Error> {
    let mut found = ReadBack::default();
    let state = state(socket)?;
    found.exists = state.is_some();
    found.dormant = state.is_some_and(|state| state.dormant);
    found.unowned = owned && !state.is_some_and(|state| matches!(state.found, Found::Owned(_)));
    found.ruleset.counters = counters(socket)?.into_keys().collect();
    read_sets(socket, &mut found)?;
    read_chains(socket, &mut found)?;
    Ok(found)
}

/// Dumps the objects of a kind. The kernel filters by family, and by table except for chains.
pub(super) fn dump(
    socket: &mut Socket,
    kind: u16,
    what: &'static str,
    fill: impl Fn(&mut Writer),
) -> Result<Vec<Vec<u8>>, Error> {
    let result = socket.dump(kind, |writer| {
        nfgenmsg(writer, nfproto::INET, 0);
        // The table's name is attribute 1 of every kind of object.
        writer.string(nfta::SET_TABLE, TABLE);
        fill(writer);
    });
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(Vec::new()),
        other => other.map_err(|source| Error::Read { what, source }),
    }
}

pub(super) fn counters(socket: &mut Socket) -> Result<BTreeMap<Name, Count>, Error> {
    let bodies = dump(socket, msg::GETOBJ, "counters", |_| {})?;
    let decoded = bodies.iter().filter_map(|body| decode_counter(Attributes::after(body, 4)));
    Ok(decoded.filter_map(|(name, (packets, bytes))| Some((Name::parse(name)?, Count { packets, bytes }))).collect())
}

fn read_sets(socket: &mut Socket, found: &mut ReadBack) -> Result<(), Error> {
    let bodies = dump(socket, msg::GETSET, "sets", |_| {})?;
    for (text, decoded) in bodies.iter().filter_map(|body| decode_set(Attributes::after(body, 4))) {
        let decoded = match decoded {
            Ok(mut set) => read_elements(socket, text, SetShape::from(&set))?.map(|elements| {
                set.elements = elements;
                set
            }),
            Err(reason) => Err(reason),
        };
        let name = Name::parse(text);
        match (name, decoded) {
            (Some(name), Ok(set)) => {
                found.ruleset.sets.insert(name, set);
            }
            (name, decoded) => {
                let reason = decoded.err().unwrap_or_else(|| "a name that is not one of ours".to_owned());
                if let Some(name) = name {
                    found.ruleset.sets.insert(name, foreign_set(&reason));
                }
                found.undecodable.insert(text.to_owned(), reason);
            }
        }
    }
    Ok(())
}

/// The elements of a set, or what makes them foreign.
fn read_elements(
    socket: &mut Socket,
    set: &str,
    shape: SetShape,
) -> Result<Result<BTreeMap<Key, Element>, String>, Error> {
    let bodies = dump(socket, msg::GETSETELEM, "the elements of a set", |writer| {
        writer.string(nfta::SET_ELEM_LIST_SET, set);
    })?;
    let lists = bodies.iter().map(|body| Attributes::after(body, 4).nest(nfta::SET_ELEM_LIST_ELEMENTS));
    let entries: Vec<_> = lists.flat_map(Attributes::iter).map(|(_, entry)| entry).collect();
    Ok(decode_elements(shape, &entries))
}

/// A set like none of ours: interface names have no ranges.
fn foreign_set(reason: &str) -> Set {
    Set {
        kind: SetKind::Set,
        key: KeyType::InterfaceName,
        interval: true,
        comment: Some(reason.to_owned()),
        elements: BTreeMap::new(),
    }
}

fn chains(socket: &mut Socket) -> Result<Vec<Vec<u8>>, Error> {
    dump(socket, msg::GETCHAIN, "chains", |_| {})
}

/// Whether the table has chains that packets reach.
pub(super) fn has_base_chains(socket: &mut Socket) -> Result<bool, Error> {
    let bodies = chains(socket)?;
    let mut ours = bodies
        .iter()
        .map(|body| Attributes::after(body, 4))
        .filter(|chain| chain.string(nfta::CHAIN_TABLE) == Some(TABLE) && chain.get(nfta::CHAIN_HOOK).is_some());
    Ok(ours.next().is_some())
}

fn read_chains(socket: &mut Socket, found: &mut ReadBack) -> Result<(), Error> {
    let bodies = chains(socket)?;
    for (text, decoded) in bodies.iter().filter_map(|body| decode_chain(Attributes::after(body, 4))) {
        let Some(name) = Name::parse(text) else {
            found.undecodable.insert(text.to_owned(), "a name that is not one of ours".to_owned());
            continue;
        };
        let chain = decoded.unwrap_or_else(|reason| {
            found.undecodable.insert(text.to_owned(), reason.clone());
            Chain { hook: None, comment: Some(reason), rules: vec![Rule::default()] }
        });
        found.ruleset.chains.insert(name, chain);
    }
    let bodies = dump(socket, msg::GETRULE, "rules", |_| {})?;
    for (chain, decoded) in bodies.iter().filter_map(|body| decode_rule(Attributes::after(body, 4))) {
        read_rule(&mut found.ruleset, &mut found.undecodable, chain, decoded);
    }
    Ok(())
}

/// Adds a rule to its chain; a foreign one replaces all rules of the chain.
fn read_rule(
    ruleset: &mut Ruleset,
    undecodable: &mut BTreeMap<String, String>,
    text: &str,
    decoded: Result<Rule, String>,
) {
    let Some(chain) = Name::parse(text).and_then(|name| ruleset.chains.get_mut(&name)) else { return };
    match decoded {
        Ok(rule) if !undecodable.contains_key(text) => chain.rules.push(rule),
        Ok(_) => {}
        Err(reason) => {
            chain.rules = vec![Rule::default()];
            undecodable.insert(text.to_owned(), reason);
        }
    }
}
