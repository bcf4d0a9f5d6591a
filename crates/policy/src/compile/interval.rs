//! Ranges of addresses, and blocks without their `except`s.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::input::{Family, IpBlock};

/// From `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

impl AddressRange {
    /// The family of both ends.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// The addresses of a prefix.
    pub fn of_net(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }

    /// The prefix with exactly these addresses, if there is one.
    pub fn as_net(self) -> Option<IpNet> {
        let (first, last, bits) = (number(self.first), number(self.last), width(self.family()));
        let host_bits = 128 - (first ^ last).leading_zeros();
        let prefix = u8::try_from(bits.checked_sub(host_bits)?).ok()?;
        let net = IpNet::new(self.first, prefix).ok()?;
        (net.network() == self.first && net.broadcast() == self.last).then_some(net)
    }

    /// Sorted, disjoint and as few as possible.
    pub fn merge(ranges: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut sorted: Vec<Self> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<Self> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(previous)
                    if previous.family() == range.family()
                        && number(range.first) <= number(previous.last).saturating_add(1) =>
                {
                    previous.last = previous.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        merged
    }

    /// The addresses that are in none of the excluded ranges; disjoint and in order.
    #[must_use]
    pub fn without(self, excluded: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let family = self.family();
        let excluded = excluded.into_iter().filter(|range| range.family() == family);
        let mut left = Vec::new();
        // The lowest address not yet decided; `None` once an excluded range reached the end of the family.
        let mut next = Some(number(self.first));
        let end = number(self.last);
        for hole in AddressRange::merge(excluded) {
            let (hole_first, hole_last) = (number(hole.first), number(hole.last));
            let Some(start) = next else { break };
            if hole_last < start || hole_first > end {
                continue;
            }
            if hole_first > start {
                left.push(range(family, start, hole_first - 1));
            }
            next = hole_last.checked_add(1);
        }
        if let Some(start) = next
            && start <= end
        {
            left.push(range(family, start, end));
        }
        left
    }
}

impl AddressRange {
    /// The ranges of a family that none of these networks tells apart, in order.
    pub fn between(family: Family, nets: impl IntoIterator<Item = IpNet>) -> Vec<Self> {
        let mut starts = BTreeSet::from([0]);
        for net in nets.into_iter().filter(|net| Family::of(net.addr()) == family) {
            starts.insert(number(net.network()));
            starts.extend(number(net.broadcast()).checked_add(1));
        }
        let highest = u128::MAX >> (128 - width(family));
        // The address after the last IPv4 address has a number, too.
        let starts: Vec<_> = starts.into_iter().filter(|start| *start <= highest).collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([highest]);
        starts.iter().zip(ends).map(|(first, last)| range(family, *first, last)).collect()
    }

    /// Whether another range begins right after this one.
    pub fn is_before(self, next: Self) -> bool {
        self.family() == next.family() && number(self.last).checked_add(1) == Some(number(next.first))
    }

    /// Its addresses, in order.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let family = self.family();
        (number(self.first)..=number(self.last)).map(move |one| range(family, one, one).first)
    }
}

impl fmt::Display for AddressRange {
    /// A CIDR if there is one, otherwise `first-last`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_net() {
            Some(net) => write!(f, "{net}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// The addresses of a block: its cidr without those of any `except`; disjoint and in order.
pub fn ranges_of_block(block: &IpBlock) -> Vec<AddressRange> {
    AddressRange::of_net(block.cidr).without(block.except.iter().copied().map(AddressRange::of_net))
}

fn width(family: Family) -> u32 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn range(family: Family, first: u128, last: u128) -> AddressRange {
    let address = |number: u128| match family {
        // IPv4 numbers fit in 32 bits: they come from IPv4 addresses.
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
    };
    AddressRange { first: address(first), last: address(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(cidr: &str, except: &[&str]) -> Vec<String> {
        let block =
            IpBlock { cidr: cidr.parse().unwrap(), except: except.iter().map(|text| text.parse().unwrap()).collect() };
        ranges_of_block(&block).iter().map(|range| format!("{}-{}", range.first, range.last)).collect()
    }

    #[test]
    fn excepts_leave_disjoint_ranges() {
        assert_eq!(left("10.0.0.0/24", &[]), ["10.0.0.0-10.0.0.255"]);
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/25"]), ["10.0.0.128-10.0.0.255"]);
        assert_eq!(left("10.0.0.0/24", &["10.0.0.7/32"]), ["10.0.0.0-10.0.0.6", "10.0.0.8-10.0.0.255"]);
        assert_eq!(
            left("10.0.0.0/24", &["10.0.0.64/26", "10.0.0.64/27", "10.0.0.200/32"]),
            ["10.0.0.0-10.0.0.63", "10.0.0.128-10.0.0.199", "10.0.0.201-10.0.0.255"]
        );
        assert_eq!(left("0.0.0.0/0", &["255.255.255.255/32"]), ["0.0.0.0-255.255.255.254"]);
        assert_eq!(left("::/0", &["8000::/1"]), ["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/24"]), Vec::<String>::new());
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/8", "fd00::/8", "11.0.0.0/8"]), Vec::<String>::new());
    }

    #[test]
    fn ranges_merge_and_become_prefixes() {
        let net = |text: &str| AddressRange::of_net(text.parse().unwrap());
        assert_eq!(AddressRange::merge([net("10.0.1.0/24"), net("10.0.0.0/24")]), [net("10.0.0.0/23")]);
        assert_eq!(net("0.0.0.0/0").as_net(), Some("0.0.0.0/0".parse().unwrap()));
        assert_eq!(net("::/0").as_net(), Some("::/0".parse().unwrap()));
        assert_eq!(net("fd00::1/128").as_net(), Some("fd00::1/128".parse().unwrap()));
        let odd = AddressRange { first: "10.0.0.1".parse().unwrap(), last: "10.0.0.2".parse().unwrap() };
        assert_eq!(odd.as_net(), None);
        // The last IPv4 address and the first IPv6 addresses are not adjacent.
        let apart = [net("255.255.255.255/32"), net("::1:0:0:0/128")];
        assert_eq!(AddressRange::merge(apart).len(), 2);
    }
}
