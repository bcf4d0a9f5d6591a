//! Objects of the table: sets and verdict maps, chains and rules, counters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::Family;

use super::{Expression, Verdict};
use crate::name::Name;

/// The whole table. Names are ordered, so equal rulesets print equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Named counters. They are never deleted in normal operation; their values are not part of the model.
    pub counters: BTreeSet<Name>,
    /// Sets and verdict maps.
    pub sets: BTreeMap<Name, Set>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
}

/// A named set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Set or verdict map.
    pub kind: SetKind,
    /// The key type.
    pub key: KeyType,
    /// Keys are ranges (`flags interval`).
    pub interval: bool,
    /// The comment; a function of the name, because the kernel cannot change it in place.
    pub comment: Option<String>,
    /// The elements.
    pub elements: BTreeMap<Key, Element>,
}

/// The kind of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Keys only.
    Set,
    /// Keys with a verdict each (`type … : verdict`).
    VerdictMap,
}

/// One field of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `ipv4_addr` or `ipv6_addr`.
    Address(Family),
    /// `inet_service`.
    Port,
    /// `ifname`.
    InterfaceName,
}

/// The key types in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// An address; with `interval` a range of addresses.
    Address(Family),
    /// Two addresses of a family.
    AddressPair(Family),
    /// An address and a port.
    AddressPort(Family),
    /// A port; with `interval` a range of ports.
    Port,
    /// The name of a network interface.
    InterfaceName,
}

impl KeyType {
    /// The fields, in order.
    pub fn fields(self) -> Vec<Field> {
        match self {
            Self::Address(family) => vec![Field::Address(family)],
            Self::AddressPair(family) => vec![Field::Address(family); 2],
            Self::AddressPort(family) => vec![Field::Address(family), Field::Port],
            Self::Port => vec![Field::Port],
            Self::InterfaceName => vec![Field::InterfaceName],
        }
    }
}

/// The key of an element. Ranges include both ends and occur only in interval sets, where every key is one; ranges of a
/// set never overlap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// One address.
    Address(IpAddr),
    /// From the first address to the last.
    AddressRange(IpAddr, IpAddr),
    /// Two addresses of a family.
    AddressPair(IpAddr, IpAddr),
    /// An address and a port.
    AddressPort(IpAddr, u16),
    /// From the first port to the last.
    PortRange(u16, u16),
    /// The name of a network interface, at most 15 bytes (IFNAMSIZ).
    InterfaceName(String),
}

impl Key {
    /// The address in the key, if there is a single one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) | Self::AddressPair(address, _) | Self::AddressPort(address, _) => Some(*address),
            Self::AddressRange(..) | Self::PortRange(..) | Self::InterfaceName(_) => None,
        }
    }
}

/// The verdict and comment of an element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The verdict; present exactly in verdict maps.
    pub verdict: Option<Verdict>,
    /// The pod that has the IP, as `default/web-0`. The elements of one pod share it.
    pub comment: Option<Arc<str>>,
}

/// Where a base chain is hooked. Type `filter`, priority `filter` (0), policy `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Packets between interfaces: routed, or bridged with br_netfilter.
    Forward,
    /// Packets to the node itself.
    Input,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Base chains have one.
    pub hook: Option<Hook>,
    /// The comment; a function of the name, because the kernel cannot change it in place.
    pub comment: Option<String>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

/// A rule: expressions that must all hold, from left to right, and the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The expressions.
    pub expressions: Vec<Expression>,
    /// Where the rule comes from, at most [`crate::name::MAX_COMMENT`] bytes.
    pub comment: Option<String>,
}
