//! Sets of ports.

use std::collections::BTreeMap;
use std::fmt;

use palisade_policy::input::Protocol;

/// Ports that are allowed, and whether protocols without ports are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSet {
    /// Protocols without ports, such as ICMP.
    pub portless: bool,
    /// Ranges in order, which neither overlap nor touch; both ends included.
    ranges: BTreeMap<Protocol, Vec<(u16, u16)>>,
}

impl PortSet {
    /// Everything.
    pub fn everything() -> Self {
        let ranges = Protocol::ALL.into_iter().map(|protocol| (protocol, vec![(1, u16::MAX)])).collect();
        Self { portless: true, ranges }
    }

    /// Nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        !self.portless && self.ranges.is_empty()
    }

    /// Whether everything is.
    pub fn is_everything(&self) -> bool {
        *self == Self::everything()
    }

    /// Whether a port is.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.of(protocol).iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// The ranges of a protocol.
    pub fn of(&self, protocol: Protocol) -> &[(u16, u16)] {
        self.ranges.get(&protocol).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a range.
    pub fn add(&mut self, protocol: Protocol, first: u16, last: u16) {
        let mut ranges = self.of(protocol).to_vec();
        ranges.push((first, last));
        self.set(protocol, joined(ranges));
    }

    /// What either has.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let mut set = Self { portless: self.portless || other.portless, ..Self::default() };
        for protocol in Protocol::ALL {
            set.set(protocol, joined([self.of(protocol), other.of(protocol)].concat()));
        }
        set
    }

    /// What both have.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut set = Self { portless: self.portless && other.portless, ..Self::default() };
        for protocol in Protocol::ALL {
            let overlap = |(first, last): (u16, u16), (from, to): (u16, u16)| {
                let both = (first.max(from), last.min(to));
                (both.0 <= both.1).then_some(both)
            };
            let pairs = self.of(protocol).iter().flat_map(|one| other.of(protocol).iter().map(move |two| (*one, *two)));
            set.set(protocol, joined(pairs.filter_map(|(one, two)| overlap(one, two)).collect()));
        }
        set
    }

    /// What this has and the other has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = Self { portless: !other.portless, ..Self::default() };
        for protocol in Protocol::ALL {
            rest.set(protocol, complement(other.of(protocol)));
        }
        self.and(&rest)
    }

    /// How many terms say it.
    fn terms(&self) -> usize {
        self.ranges.values().map(Vec::len).sum::<usize>() + usize::from(self.portless)
    }

    fn set(&mut self, protocol: Protocol, ranges: Vec<(u16, u16)>) {
        if ranges.is_empty() {
            self.ranges.remove(&protocol);
        } else {
            self.ranges.insert(protocol, ranges);
        }
    }
}

/// The ranges in order, those that overlap or touch as one.
fn joined(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// The ports from 1 on that are in none of these ranges, which are in order.
fn complement(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let (mut next, mut gaps) = (Some(1_u16), Vec::new());
    for (first, last) in ranges {
        if let Some(from) = next.filter(|from| from < first) {
            gaps.push((from, first - 1));
        }
        next = last.checked_add(1);
    }
    gaps.extend(next.map(|from| (from, u16::MAX)));
    gaps
}

impl fmt::Display for PortSet {
    /// `TCP 80,8000-8999 UDP 53`, `every port`, `all but TCP 22`, `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("every port");
        }
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let rest = Self::everything().without(self);
        if rest.terms() < self.terms() {
            return write!(f, "all but {rest}");
        }
        let of_protocol = |(protocol, ranges): (&Protocol, &Vec<(u16, u16)>)| {
            let range = |(first, last): &(u16, u16)| match (first, last) {
                (1, &u16::MAX) => "all".to_owned(),
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            };
            format!("{protocol} {}", ranges.iter().map(range).collect::<Vec<_>>().join(","))
        };
        let portless = self.portless.then(|| "ICMP".to_owned());
        f.write_str(&self.ranges.iter().map(of_protocol).chain(portless).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ranges: &[(u16, u16)]) -> PortSet {
        let mut set = PortSet::nothing();
        ranges.iter().for_each(|(first, last)| set.add(Protocol::Tcp, *first, *last));
        set
    }

    #[test]
    fn sets_of_ports() {
        assert_eq!(tcp(&[(80, 80), (81, 90), (1, 1)]).to_string(), "TCP 1,80-90");
        assert_eq!(tcp(&[(80, 90)]).without(&tcp(&[(85, 86)])).to_string(), "TCP 80-84,87-90");
        assert_eq!(tcp(&[(1, u16::MAX)]).without(&tcp(&[(1, 1), (u16::MAX, u16::MAX)])).to_string(), "TCP 2-65534");
        assert_eq!(PortSet::everything().without(&tcp(&[(22, 22)])).to_string(), "all but TCP 22");
        assert!(tcp(&[(80, 90)]).without(&PortSet::everything()).is_empty());
        assert_eq!(PortSet::everything().without(&tcp(&[(1, u16::MAX)])).to_string(), "all but TCP all");
        assert_eq!(tcp(&[(80, 90)]).and(&tcp(&[(85, 100)])), tcp(&[(85, 90)]));
        assert_eq!(tcp(&[(80, 80)]).or(&PortSet::everything()), PortSet::everything());
        assert!(tcp(&[(80, 90)]).contains(Protocol::Tcp, 90) && !tcp(&[(80, 90)]).contains(Protocol::Udp, 80));
    }
}
