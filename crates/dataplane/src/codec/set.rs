//! Sets, verdict maps and their elements.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_policy::input::Family;
use palisade_ruleset::model::{Element, Field, Key, KeyType, Set, SetKind, TABLE, Verdict};

use super::constant::{datatype, nft, nfta};
use super::lower::last_address;
use super::userdata;
use super::value::{address_bytes, address_length, decode_address, decode_verdict, write_value, write_verdict};
use crate::netlink::{Attributes, Writer};

/// What the encoding of elements depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetShape {
    key: KeyType,
    interval: bool,
}

impl From<&Set> for SetShape {
    fn from(set: &Set) -> Self {
        Self { key: set.key, interval: set.interval }
    }
}

/// Attributes that our sets do not have: they make elements expire or match differently.
const FOREIGN_SET: [u16; 5] =
    [nfta::SET_TIMEOUT, nfta::SET_GC_INTERVAL, nfta::SET_OBJ_TYPE, nfta::SET_EXPR, nfta::SET_EXPRESSIONS];

/// Attributes that our elements do not have: an element with one may expire, or match only sometimes.
const FOREIGN_ELEMENT: [u16; 5] = [
    nfta::SET_ELEM_TIMEOUT,
    nfta::SET_ELEM_EXPR,
    nfta::SET_ELEM_OBJREF,
    nfta::SET_ELEM_KEY_END,
    nfta::SET_ELEM_EXPRESSIONS,
];

fn type_number(field: Field) -> u32 {
    match field {
        Field::Address(Family::V4) => datatype::IPADDR,
        Field::Address(Family::V6) => datatype::IP6ADDR,
        Field::Port => datatype::INET_SERVICE,
        Field::InterfaceName => datatype::IFNAME,
    }
}

fn field_length(field: Field) -> usize {
    match field {
        Field::Address(family) => address_length(family),
        Field::Port => 2,
        Field::InterfaceName => INTERFACE_NAME,
    }
}

/// IFNAMSIZ.
const INTERFACE_NAME: usize = 16;

/// A concatenation's type has those of its fields.
fn key_type(key: KeyType) -> u32 {
    key.fields().into_iter().fold(0, |number, field| number << datatype::BITS | type_number(field))
}

/// In a concatenation each field is padded to 4 bytes.
fn key_length(key: KeyType) -> usize {
    match key.fields().as_slice() {
        [field] => field_length(*field),
        fields => fields.iter().map(|field| field_length(*field).next_multiple_of(4)).sum(),
    }
}

/// The attributes of a set after its table, without its elements; `id` distinguishes the sets of a batch. `None` if no
/// such set can exist.
pub(crate) fn write_set(writer: &mut Writer, name: &str, set: &Set, id: u32) -> Option<()> {
    if !fits(set.key, set.interval) {
        return None;
    }
    let map = set.kind == SetKind::VerdictMap;
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    writer.string(nfta::SET_NAME, name);
    writer.be32(nfta::SET_FLAGS, flag(set.interval, nft::SET_INTERVAL) | flag(map, nft::SET_MAP));
    writer.be32(nfta::SET_KEY_TYPE, key_type(set.key));
    writer.be32(nfta::SET_KEY_LEN, u32::try_from(key_length(set.key)).unwrap_or_default());
    if map {
        writer.be32(nfta::SET_DATA_TYPE, nft::DATA_VERDICT);
        writer.be32(nfta::SET_DATA_LEN, 0);
    }
    writer.be32(nfta::SET_ID, id);
    writer.attribute(nfta::SET_USERDATA, &userdata::set(set));
    Some(())
}

/// The name of a set of our table, and the set without its elements, or the reason why it is foreign.
pub(crate) fn decode_set(attributes: Attributes<'_>) -> Option<(&str, Result<Set, String>)> {
    if attributes.string(nfta::SET_TABLE) != Some(TABLE) {
        return None;
    }
    let name = attributes.string(nfta::SET_NAME)?;
    let flags = attributes.be32(nfta::SET_FLAGS).unwrap_or_default();
    let number = attributes.be32(nfta::SET_KEY_TYPE).unwrap_or_default();
    let length = attributes.be32(nfta::SET_KEY_LEN).and_then(|length| usize::try_from(length).ok());
    let key = key_types().find(|key| key_type(*key) == number && Some(key_length(*key)) == length);
    let ours = flags & !(nft::SET_INTERVAL | nft::SET_MAP) == 0
        && (flags & nft::SET_MAP == 0 || attributes.be32(nfta::SET_DATA_TYPE) == Some(nft::DATA_VERDICT))
        && attributes.iter().all(|(kind, _)| !FOREIGN_SET.contains(&kind))
        && attributes.nest(nfta::SET_DESC).get(nfta::SET_DESC_SIZE).is_none();
    let decoded = match key {
        Some(key) if ours && fits(key, flags & nft::SET_INTERVAL != 0) => Ok(Set {
            kind: if flags & nft::SET_MAP == 0 { SetKind::Set } else { SetKind::VerdictMap },
            key,
            interval: flags & nft::SET_INTERVAL != 0,
            comment: userdata::decode_set_comment(attributes.get(nfta::SET_USERDATA)),
            elements: BTreeMap::new(),
        }),
        _ => Err(format!("a set of key type {number} with flags {flags:#x} and properties that are not ours")),
    };
    Some((name, decoded))
}

/// Ports are always ranges, pairs and names never are; addresses may be.
fn fits(key: KeyType, interval: bool) -> bool {
    match key {
        KeyType::Address(_) => true,
        KeyType::Port => interval,
        KeyType::AddressPair(_) | KeyType::AddressPort(_) | KeyType::InterfaceName => !interval,
    }
}

fn key_types() -> impl Iterator<Item = KeyType> {
    let addresses = Family::ALL
        .into_iter()
        .flat_map(|family| [KeyType::Address(family), KeyType::AddressPair(family), KeyType::AddressPort(family)]);
    addresses.chain([KeyType::Port, KeyType::InterfaceName])
}

/// Appends an element to a list: one entry, or the start and the exclusive end of a range. `None` if the key does not
/// fit the set.
pub(crate) fn element_wire(writer: &mut Writer, shape: SetShape, key: &Key, element: Option<&Element>) -> Option<()> {
    let verdict = element.and_then(|element| element.verdict.as_ref());
    let comment = element.and_then(|element| element.comment.as_deref());
    let (first, end) = key_bytes(shape, key)?;
    let open = shape.interval && end.is_none();
    write_entry(writer, &first, 0, verdict, &userdata::element(comment, open));
    if let Some(end) = end {
        write_entry(writer, &end, nft::SET_ELEM_INTERVAL_END, None, &[]);
    }
    Some(())
}

/// Appends the end element at 0 that nft puts into a new interval set, unless its first range starts there.
pub(crate) fn zero_end(writer: &mut Writer, shape: SetShape, first: &Key) {
    let zero = vec![0; key_length(shape.key)];
    if shape.interval && key_bytes(shape, first).is_some_and(|(start, _)| start != zero) {
        write_entry(writer, &zero, nft::SET_ELEM_INTERVAL_END, None, &[]);
    }
}

fn write_entry(writer: &mut Writer, key: &[u8], flags: u32, verdict: Option<&Verdict>, userdata: &[u8]) {
    writer.nest(nfta::LIST_ELEM, |writer| {
        if flags != 0 {
            writer.be32(nfta::SET_ELEM_FLAGS, flags);
        }
        write_value(writer, nfta::SET_ELEM_KEY, key);
        if let Some(verdict) = verdict {
            write_verdict(writer, nfta::SET_ELEM_DATA, verdict);
        }
        if !userdata.is_empty() {
            writer.attribute(nfta::SET_ELEM_USERDATA, userdata);
        }
    });
}

/// The bytes of a key, and in an interval set those of the exclusive end, unless the range reaches the last value.
fn key_bytes(shape: SetShape, key: &Key) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let of = |address: &IpAddr, family| (Family::of(*address) == family).then(|| address_bytes(*address));
    match (shape.key, key) {
        (KeyType::Address(family), Key::Address(address)) if !shape.interval => Some((of(address, family)?, None)),
        (KeyType::Address(family), Key::AddressRange(first, last)) if shape.interval => {
            Some((of(first, family)?, after(of(last, family)?)))
        }
        (KeyType::Port, Key::PortRange(first, last)) if shape.interval => {
            Some((first.to_be_bytes().to_vec(), after(last.to_be_bytes().to_vec())))
        }
        (KeyType::AddressPair(family), Key::AddressPair(first, second)) => {
            Some(([of(first, family)?, of(second, family)?].concat(), None))
        }
        (KeyType::AddressPort(family), Key::AddressPort(address, port)) => {
            let [high, low] = port.to_be_bytes();
            Some(([of(address, family)?, vec![high, low, 0, 0]].concat(), None))
        }
        (KeyType::InterfaceName, Key::InterfaceName(name)) if name.len() < INTERFACE_NAME => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(INTERFACE_NAME, 0);
            Some((bytes, None))
        }
        _ => None,
    }
}

/// The next number, if there is one.
fn after(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(bytes);
        }
    }
    None
}

/// The previous number, which the caller knows to exist.
fn before(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    bytes
}

/// The first value of an element's key, for messages about it.
pub(crate) fn decode_key(shape: SetShape, entry: &[u8]) -> Option<Key> {
    let bytes = Attributes::new(entry).nest(nfta::SET_ELEM_KEY).get(nfta::DATA_VALUE)?;
    if shape.interval { range(shape.key, bytes, bytes) } else { single(shape.key, bytes) }
}

/// The elements of a set from all entries of its dump.
pub(crate) fn decode_elements(shape: SetShape, entries: &[&[u8]]) -> Result<BTreeMap<Key, Element>, String> {
    let mut parsed = Vec::with_capacity(entries.len());
    for entry in entries {
        let attributes = Attributes::new(entry);
        let key = attributes.nest(nfta::SET_ELEM_KEY).get(nfta::DATA_VALUE).ok_or("an element without a key")?;
        if attributes.iter().any(|(kind, _)| FOREIGN_ELEMENT.contains(&kind)) {
            return Err("an element with a timeout or expression, which is not ours".to_owned());
        }
        let flags = attributes.be32(nfta::SET_ELEM_FLAGS).unwrap_or_default();
        let verdict = match attributes.get(nfta::SET_ELEM_DATA) {
            Some(data) => Some(decode_verdict(Attributes::new(data)).ok_or("an element with a verdict not ours")?),
            None => None,
        };
        let comment = userdata::decode_comment(attributes.get(nfta::SET_ELEM_USERDATA));
        parsed.push((key, flags, Element { verdict, comment: comment.map(Into::into) }));
    }
    if shape.interval { decode_ranges(shape.key, parsed) } else { decode_singles(shape.key, parsed) }
}

type Parsed<'a> = Vec<(&'a [u8], u32, Element)>;

fn decode_singles(key_type: KeyType, parsed: Parsed<'_>) -> Result<BTreeMap<Key, Element>, String> {
    let mut elements = BTreeMap::new();
    for (bytes, flags, element) in parsed {
        let key = (flags == 0).then(|| single(key_type, bytes)).flatten().ok_or("an element that is not ours")?;
        elements.insert(key, element);
    }
    Ok(elements)
}

/// Pairs each start with the end that follows it. An end at the same value belongs to the range before it.
fn decode_ranges(key_type: KeyType, mut parsed: Parsed<'_>) -> Result<BTreeMap<Key, Element>, String> {
    parsed.sort_by(|(key, flags, _), (other, other_flags, _)| key.cmp(other).then(other_flags.cmp(flags)));
    let mut elements = BTreeMap::new();
    let mut open: Option<(&[u8], Element)> = None;
    for (bytes, flags, element) in parsed {
        match (flags, open.take()) {
            (nft::SET_ELEM_INTERVAL_END, Some((first, element))) => {
                let key = range(key_type, first, &before(bytes.to_vec())).ok_or("a range that is not ours")?;
                elements.insert(key, element);
            }
            (nft::SET_ELEM_INTERVAL_END, None) => {}
            (0, None) => open = Some((bytes, element)),
            _ => return Err("ranges without their ends".to_owned()),
        }
    }
    if let Some((first, element)) = open {
        let last = match key_type {
            KeyType::Address(family) => address_bytes(last_address(family)),
            _ => vec![0xff; key_length(key_type)],
        };
        elements.insert(range(key_type, first, &last).ok_or("a range that is not ours")?, element);
    }
    Ok(elements)
}

fn single(key: KeyType, bytes: &[u8]) -> Option<Key> {
    match key {
        KeyType::Address(family) => decode_address(family, bytes).map(Key::Address),
        KeyType::Port => None,
        KeyType::AddressPair(family) => {
            let (first, second) = bytes.split_at_checked(address_length(family))?;
            Some(Key::AddressPair(decode_address(family, first)?, decode_address(family, second)?))
        }
        KeyType::AddressPort(family) => {
            let (address, rest) = bytes.split_at_checked(address_length(family))?;
            Some(Key::AddressPort(decode_address(family, address)?, port(rest.get(..2)?)?))
        }
        KeyType::InterfaceName => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8(bytes.get(..end)?.to_vec()).ok().map(Key::InterfaceName)
        }
    }
}

fn range(key: KeyType, first: &[u8], last: &[u8]) -> Option<Key> {
    match key {
        KeyType::Address(family) => {
            Some(Key::AddressRange(decode_address(family, first)?, decode_address(family, last)?))
        }
        KeyType::Port => Some(Key::PortRange(port(first)?, port(last)?)),
        _ => None,
    }
}

fn port(bytes: &[u8]) -> Option<u16> {
    <[u8; 2]>::try_from(bytes).ok().map(u16::from_be_bytes)
}

impl SetShape {
    /// The shape of the set that a key can be in.
    pub(crate) fn of_key(key: &Key) -> Self {
        let (key, interval) = match key {
            Key::Address(address) => (KeyType::Address(Family::of(*address)), false),
            Key::AddressRange(address, _) => (KeyType::Address(Family::of(*address)), true),
            Key::AddressPair(address, _) => (KeyType::AddressPair(Family::of(*address)), false),
            Key::AddressPort(address, _) => (KeyType::AddressPort(Family::of(*address)), false),
            Key::PortRange(..) => (KeyType::Port, true),
            Key::InterfaceName(_) => (KeyType::InterfaceName, false),
        };
        Self { key, interval }
    }
}
