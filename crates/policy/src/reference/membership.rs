//! Label matching and block membership: the reference evaluator's own implementation.

use std::net::IpAddr;

use crate::input::{IpBlock, LabelSelector, Labels, Operator};

/// 1.2 "Selectors": every requirement must hold; without any, everything is selected.
pub(super) fn is_selected(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|requirement| {
        let value = labels.iter().find(|(key, _)| **key == requirement.key).map(|(_, value)| value);
        match &requirement.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            // Also matches objects without the key.
            Operator::NotIn(values) => !value.is_some_and(|value| values.iter().any(|one| one == value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    })
}

/// In `cidr` and in none of the excepts of this block.
pub(super) fn is_in_block(block: &IpBlock, address: IpAddr) -> bool {
    let is_in = |cidr: &ipnet::IpNet| is_in_cidr(cidr.addr(), cidr.prefix_len(), address);
    is_in(&block.cidr) && !block.except.iter().any(is_in)
}

/// Whether the first `length` bits are the same. The families do not overlap.
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
