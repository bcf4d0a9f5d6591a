//! The flows of conntrack entries, from the kernel or from what it prints, each counted once.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};
use std::net::IpAddr;
use std::str::FromStr;

use super::{Conntrack, GET, TRIES, TUPLE_IP, TUPLES, address, failed, header};
use crate::Error;
use crate::netlink::Attributes;

/// `CTA_TUPLE_PROTO`, and `CTA_PROTO_NUM` and `CTA_PROTO_SRC_PORT` in it.
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;

/// How many different flows are kept: as many entries as the kernel allows by default on a node with 4 GiB or more.
const FLOWS: usize = 262_144;

/// The longest line of text, in bytes. `conntrack -L` prints about 200.
const LINE: usize = 4_096;

/// The words that precede the numbers of a network protocol in /proc/net/nf_conntrack.
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// A flow as conntrack has it: the source of the original tuple, and the source of the reply tuple, which is the server
/// after Service translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tracked {
    /// The client.
    pub client: IpAddr,
    /// The server.
    pub server: IpAddr,
    /// The protocol's number, such as 6 for TCP.
    pub protocol: u8,
    /// The server's port; none for protocols without ports.
    pub port: Option<u16>,
}

/// The flows of many entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Each flow, and how many entries it has: they differ in the client's port.
    pub flows: BTreeMap<Tracked, usize>,
    /// All entries that were read.
    pub entries: usize,
    /// Entries that are no flow: a malformed line, or a tuple without IPs.
    pub malformed: usize,
    /// Entries of further flows, after as many as are kept.
    pub beyond: usize,
    /// The kernel changed its table during every dump: entries may be missing.
    pub incomplete: bool,
}

impl Census {
    fn add(&mut self, found: Option<Tracked>) {
        self.entries += 1;
        let Some(tracked) = found else {
            self.malformed += 1;
            return;
        };
        let is_full = self.flows.len() >= FLOWS;
        match self.flows.get_mut(&tracked) {
            Some(count) => *count += 1,
            None if is_full => self.beyond += 1,
            None => drop(self.flows.insert(tracked, 1)),
        }
    }

    /// The flows in the text of `conntrack -L` or /proc/net/nf_conntrack.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(mut text: impl BufRead) -> io::Result<Self> {
        let mut census = Self::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = u64::try_from(LINE).unwrap_or_default();
            if text.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
                return Ok(census);
            }
            if line.len() >= LINE && !line.ends_with(b"\n") {
                text.skip_until(b'\n')?;
                census.add(None);
                continue;
            }
            let line = String::from_utf8_lossy(&line);
            // conntrack ends with "conntrack v1.4.7 (conntrack-tools): 20 flow entries have been shown." on stderr.
            if !line.trim().is_empty() && !line.starts_with("conntrack v") {
                census.add(line.parse().ok());
            }
        }
    }
}

/// A line that is no entry of conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntry;

impl FromStr for Tracked {
    type Err = NoEntry;

    /// `tcp 6 117 TIME_WAIT src=… dst=… sport=… dport=… src=… dst=… sport=… dport=…`, with or without the family before
    /// it and other words between.
    fn from_str(line: &str) -> Result<Self, NoEntry> {
        // `conntrack -E` begins with the event, and with -o timestamp with the time.
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with('[')).peekable();
        if words.peek().is_some_and(|word| FAMILIES.contains(word)) {
            words.next();
            words.next();
        }
        let protocol = words.nth(1).and_then(|number| number.parse().ok()).ok_or(NoEntry)?;
        let (mut sources, mut ports) = (Vec::new(), Vec::new());
        for word in words {
            match word.split_once('=') {
                Some(("src", ip)) => sources.push(ip.parse::<IpAddr>().map_err(|_of_ip| NoEntry)?),
                Some(("sport", port)) => ports.push(port.parse::<u16>().map_err(|_of_port| NoEntry)?),
                _ => {}
            }
        }
        let port = match ports.as_slice() {
            [] => None,
            [_, server] => Some(*server),
            _ => return Err(NoEntry),
        };
        let [client, server] = sources.as_slice() else { return Err(NoEntry) };
        Ok(Self { client: *client, server: *server, protocol, port })
    }
}

impl Tracked {
    /// The flow of an entry in a dump.
    fn of(entry: &[u8]) -> Option<Self> {
        let entry = Attributes::after(entry, 4);
        let [original, reply] = TUPLES.map(|kind| entry.nest(kind));
        let source = |tuple: Attributes<'_>| tuple.nest(TUPLE_IP).iter().find_map(|(kind, value)| source(kind, value));
        let protocol = reply.nest(TUPLE_PROTOCOL);
        Some(Self {
            client: source(original)?,
            server: source(reply)?,
            protocol: *protocol.get(PROTOCOL_NUMBER)?.first()?,
            port: protocol.get(SOURCE_PORT).and_then(|port| Some(u16::from_be_bytes(port.try_into().ok()?))),
        })
    }
}

/// The source in a tuple: `CTA_IP_V4_SRC` or `CTA_IP_V6_SRC`.
fn source(kind: u16, value: &[u8]) -> Option<IpAddr> {
    let is_source = [super::V4, super::V6].iter().any(|[source, _]| *source == kind);
    is_source.then(|| address(kind, value)).flatten()
}

impl Conntrack {
    /// The flows of all entries.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn census(&mut self) -> Result<Census, Error> {
        let mut census = Census::default();
        for _ in 0..TRIES {
            census = Census::default();
            let take = |entry: &[u8]| census.add(Tracked::of(entry));
            if self.dumps.dump_once(GET, |writer| header(writer, None), take).map_err(failed)? {
                return Ok(census);
            }
        }
        Ok(Census { incomplete: true, ..census })
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail when: the server is the destination of the original tuple; the port is the first one, or the
    //! client's; a line that is too long is read as two; the event before an entry is taken for its protocol.

    use super::*;

    fn tracked(line: &str) -> Option<(String, String, u8, Option<u16>)> {
        let Tracked { client, server, protocol, port } = line.parse().ok()?;
        Some((client.to_string(), server.to_string(), protocol, port))
    }

    #[test]
    fn every_form_of_a_line_is_read() {
        let flow =
            |client: &str, server: &str, protocol, port| Some((client.to_owned(), server.to_owned(), protocol, port));
        for (line, expected) in [
            (
                "tcp      6 431999 ESTABLISHED src=10.42.1.2 dst=10.96.0.1 sport=40000 dport=443 src=172.30.0.11 \
                 dst=10.42.1.2 sport=6443 dport=40000 [ASSURED] mark=0 use=1",
                flow("10.42.1.2", "172.30.0.11", 6, Some(6443)),
            ),
            (
                "ipv6     10 udp      17 29 src=fd00::1 dst=fd00::2 sport=5 dport=53 packets=1 bytes=70 [UNREPLIED] \
                 src=fd00::2 dst=fd00::1 sport=53 dport=5 packets=0 bytes=0 mark=0 zone=0 use=2",
                flow("fd00::1", "fd00::2", 17, Some(53)),
            ),
            (
                "icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=7",
                flow("10.0.0.1", "10.0.0.2", 1, None),
            ),
            (
                "[1700000000.1]\t    [NEW] sctp     132 3 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 \
                 dst=10.0.0.1 sport=2 dport=1",
                flow("10.0.0.1", "10.0.0.2", 132, Some(2)),
            ),
            (
                "unknown  2 597 src=10.0.0.1 dst=224.0.0.1 src=224.0.0.1 dst=10.0.0.1",
                flow("10.0.0.1", "224.0.0.1", 2, None),
            ),
            ("tcp 6 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2", None),
            ("tcp 6 src=10.0.0.1 sport=1 src=10.0.0.2", None),
            ("tcp 6 src=10.0.0.1 sport=1 src=10.0.0.2 sport=65536", None),
            ("tcp 6 src=web sport=1 src=10.0.0.2 sport=2", None),
            ("{\"from\":\"shop/web\"}", None),
            ("ipv4", None),
        ] {
            assert_eq!(tracked(line), expected, "{line}");
        }
    }

    #[test]
    fn entries_of_a_flow_are_counted_and_lines_that_are_none_are_too() {
        let one = |port: usize| {
            format!(
                "tcp 6 9 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport={port} dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport={port}\n"
            )
        };
        let long = format!("{} src=10.0.0.1\n", "x".repeat(3 * LINE));
        let text = one(1) + "\nconntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown.\n" + &long + &one(2);
        let census = Census::read(text.as_bytes()).unwrap();
        assert_eq!((census.entries, census.malformed, census.beyond), (3, 1, 0));
        assert_eq!(census.flows.into_values().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn flows_beyond_the_limit_are_counted_but_not_kept() {
        let mut census = Census::default();
        for number in 0..=FLOWS {
            let client = IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
            census.add(Some(Tracked { client, server: client, protocol: 6, port: Some(80) }));
        }
        assert_eq!((census.entries, census.flows.len(), census.beyond), (FLOWS + 1, FLOWS, 1));
    }
}
