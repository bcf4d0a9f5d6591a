//! Data that nft stores with objects and the kernel only keeps: comments, and hints for listings. Each entry is a type,
//! a length and the data; the first two take one byte each (libnftnl udata.h).

use palisade_ruleset::model::{KeyType, Set, SetKind};

/// The comment of a table, chain, rule, element or object.
const COMMENT: u8 = 0;
/// `NFTNL_UDATA_SET_KEYBYTEORDER`.
const KEY_ORDER: u8 = 0;
/// `NFTNL_UDATA_SET_DATABYTEORDER`.
const DATA_ORDER: u8 = 1;
/// `NFTNL_UDATA_SET_KEY_TYPEOF`.
const KEY_TYPEOF: u8 = 3;
/// `NFTNL_UDATA_SET_DATA_INTERVAL`.
const DATA_INTERVAL: u8 = 6;
/// `NFTNL_UDATA_SET_COMMENT`.
const SET_COMMENT: u8 = 7;
/// `NFTNL_UDATA_SET_ELEM_FLAGS`.
const ELEMENT_FLAGS: u8 = 1;
/// `NFTNL_SET_ELEM_F_INTERVAL_OPEN`: the range has no end element, as it reaches to the last value.
const OPEN: u32 = 1;
/// nft's number of a concatenation among its own expressions.
const CONCATENATION: u32 = 13;

/// nft's byte orders.
const ORDER_NONE: u32 = 0;
const ORDER_HOST: u32 = 1;
const ORDER_BIG: u32 = 2;

/// The userdata of a table, chain, rule or object.
pub(super) fn comment(text: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_comment(&mut bytes, COMMENT, text);
    bytes
}

/// The userdata of an element.
pub(super) fn element(text: Option<&str>, open: bool) -> Vec<u8> {
    let mut bytes = comment(text);
    if open {
        push(&mut bytes, ELEMENT_FLAGS, &OPEN.to_ne_bytes());
    }
    bytes
}

/// The userdata of a set.
pub(super) fn set(set: &Set) -> Vec<u8> {
    let mut bytes = Vec::new();
    let order = match set.key {
        KeyType::Address(_) | KeyType::Port => ORDER_BIG,
        KeyType::InterfaceName => ORDER_HOST,
        KeyType::AddressPair(_) | KeyType::AddressPort(_) => ORDER_NONE,
    };
    push(&mut bytes, KEY_ORDER, &order.to_ne_bytes());
    if set.kind == SetKind::VerdictMap {
        push(&mut bytes, DATA_ORDER, &ORDER_NONE.to_ne_bytes());
    }
    if order == ORDER_NONE {
        let mut typeof_key = Vec::new();
        push(&mut typeof_key, 0, &CONCATENATION.to_ne_bytes());
        push(&mut typeof_key, 1, &[]);
        push(&mut bytes, KEY_TYPEOF, &typeof_key);
    }
    if set.kind == SetKind::VerdictMap {
        push(&mut bytes, DATA_INTERVAL, &0_u32.to_ne_bytes());
    }
    push_comment(&mut bytes, SET_COMMENT, set.comment.as_deref());
    bytes
}

/// The comment in userdata of anything but a set.
pub(super) fn decode_comment(bytes: Option<&[u8]>) -> Option<String> {
    find(bytes?, COMMENT)
}

/// The comment in the userdata of a set.
pub(super) fn decode_set_comment(bytes: Option<&[u8]>) -> Option<String> {
    find(bytes?, SET_COMMENT)
}

fn push(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(value);
}

/// Comments are at most 128 bytes; a longer one is truncated here rather than garbled.
fn push_comment(bytes: &mut Vec<u8>, kind: u8, text: Option<&str>) {
    if let Some(text) = text {
        let mut value: Vec<u8> = text.bytes().take(usize::from(u8::MAX) - 1).collect();
        value.push(0);
        push(bytes, kind, &value);
    }
}

fn find(mut bytes: &[u8], wanted: u8) -> Option<String> {
    loop {
        let (kind, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == wanted {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        bytes = rest;
    }
}
