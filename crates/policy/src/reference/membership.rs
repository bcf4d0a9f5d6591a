//! Label matching and block membership: the reference evaluator's own implementation.

use std::net::IpAddr;

use crate::input::{IpBlock, LabelSelector, Labels, Operator, Requirement, UNKNOWN_LABEL};

/// How far a selector matched the labels of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection<'a> {
    /// Every requirement holds.
    Yes,
    /// This requirement does not hold.
    No(&'a Requirement),
    /// It depends on this requirement: the label exists, and only a controller knows its value.
    Unknown {
        /// The requirement.
        requirement: &'a Requirement,
        /// Whether it is assumed to hold: an unknown value equals no value in a selector.
        assumed: bool,
    },
}

impl Selection<'_> {
    /// Whether the object counts as selected.
    pub fn is_match(self) -> bool {
        matches!(self, Self::Yes | Self::Unknown { assumed: true, .. })
    }
}

/// 1.2 "Selectors": every requirement must hold; without any, everything is selected.
pub(super) fn selection<'a>(selector: &'a LabelSelector, labels: &Labels) -> Selection<'a> {
    let mut found = Selection::Yes;
    for requirement in &selector.requirements {
        let value = labels.iter().find(|(key, _)| **key == requirement.key).map(|(_, value)| value);
        let holds = match &requirement.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            // Also matches objects without the key.
            Operator::NotIn(values) => !value.is_some_and(|value| values.iter().any(|one| one == value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        };
        let is_about_value = matches!(requirement.operator, Operator::In(_) | Operator::NotIn(_));
        if is_about_value && value.is_some_and(|value| value == UNKNOWN_LABEL) {
            if matches!(found, Selection::Yes | Selection::Unknown { assumed: true, .. }) {
                found = Selection::Unknown { requirement, assumed: holds };
            }
        } else if !holds {
            return Selection::No(requirement);
        }
    }
    found
}

/// Whether a selector selects an object with these labels.
pub(super) fn is_selected(selector: &LabelSelector, labels: &Labels) -> bool {
    selection(selector, labels).is_match()
}

/// Whether an IP is in `cidr`.
pub(super) fn is_in_net(cidr: &ipnet::IpNet, address: IpAddr) -> bool {
    is_in_cidr(cidr.addr(), cidr.prefix_len(), address)
}

/// The first `except` of a block that contains an IP.
pub(super) fn excepted(block: &IpBlock, address: IpAddr) -> Option<ipnet::IpNet> {
    block.except.iter().copied().find(|except| is_in_net(except, address))
}

/// Whether the first `length` bits are equal; never across families.
fn is_in_cidr(network: IpAddr, length: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let rest = 32 - u32::from(length.min(32));
            u64::from(network.to_bits()) >> rest == u64::from(address.to_bits()) >> rest
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let rest = 128 - u32::from(length.min(128));
            let head = |address: u128| address.checked_shr(rest).unwrap_or(0);
            head(network.to_bits()) == head(address.to_bits())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}
