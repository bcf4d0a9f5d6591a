//! Traffic between pods, every datagram counted: all allowed ones must arrive, and no others.

use std::fmt;
use std::time::{Duration, Instant};

use palisade_lab::{Flood, Flow, Listen, Server, Sink, Stream};

use crate::life::cluster::{asked_every, within};
use crate::life::scene::{Pod, Scene};

/// Datagrams a second of each flood.
pub(crate) const RATE: u32 = 500;
/// Time for datagrams in flight.
const LIMIT: Duration = Duration::from_secs(5);
const FIRST_PORT: u16 = 20_000;
const STREAMS: u16 = 19_999;

/// Floods of datagrams, and TCP streams next to the allowed ones.
pub(crate) struct Traffic {
    allowed: Vec<Line>,
    denied: Vec<Line>,
    streams: Vec<Stream>,
    _echoes: Vec<Server>,
}

struct Line {
    flood: Flood,
    sink: Sink,
}

/// A server that allows clients, and on each node a client and another pod.
pub(crate) struct Crowd {
    pub(crate) server: Pod,
    pub(crate) near: Pod,
    far: Pod,
    pub(crate) stranger: Pod,
    beyond: Pod,
}

impl Crowd {
    /// Starts the pods; the policy may come into force a moment later.
    pub(crate) fn gather(scene: &Scene<'_>) -> Self {
        let [server, near, far, stranger, beyond] = scene.pods([
            ("server", "node1", "server"),
            ("near", "node1", "client"),
            ("far", "node2", "client"),
            ("stranger", "node1", "stranger"),
            ("beyond", "node2", "stranger"),
        ]);
        scene.let_clients_in();
        Self { server, near, far, stranger, beyond }
    }

    /// All pods send to the server, and allowed packets have begun to arrive.
    pub(crate) fn traffic(&self) -> Traffic {
        let Self { server, near, far, stranger, beyond } = self;
        let traffic = Traffic::start(&[(near, server), (far, server)], &[(stranger, server), (beyond, server)]);
        traffic.flows();
        traffic
    }
}

/// The fate of the datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) lost: u64,
    pub(crate) denied: u64,
    pub(crate) leaked: u64,
}

impl Traffic {
    /// Starts it, over every family, from the first of each pair to the second.
    pub(crate) fn start(allowed: &[(&Pod, &Pod)], denied: &[(&Pod, &Pod)]) -> Self {
        let mut port = FIRST_PORT;
        let mut lines = |pairs: &[(&Pod, &Pod)]| -> Vec<Line> {
            let ends =
                pairs.iter().flat_map(|(from, to)| to.addresses.iter().map(move |address| (*from, *to, *address)));
            let line = |(from, to, address): (&Pod, &Pod, _)| {
                port += 1;
                let sink = Sink::open(&to.network, address, port).unwrap();
                Line { flood: Flood::start(&Flow::udp(&from.network, address, port), Some(RATE)).unwrap(), sink }
            };
            ends.map(line).collect()
        };
        let (allowed_lines, denied) = (lines(allowed), lines(denied));
        let mut servers: Vec<&Pod> = allowed.iter().map(|(_, to)| *to).collect();
        servers.dedup_by_key(|pod| &pod.name);
        let echo = |pod: &&Pod| Server::start(&pod.network, &pod.addresses, &[Listen::tcp(STREAMS)]).unwrap();
        let echoes = servers.iter().map(echo).collect();
        let ends = allowed.iter().flat_map(|(from, to)| to.addresses.iter().map(move |address| (from, *address)));
        let stream = |(from, address): (&&Pod, _)| {
            Stream::start(&Flow::tcp(&from.network, address, STREAMS), Duration::from_millis(5)).unwrap()
        };
        Self { allowed: allowed_lines, denied, streams: ends.map(stream).collect(), _echoes: echoes }
    }

    /// The arrivals among the datagrams sent until now. It waits for those in flight; missing ones are lost.
    pub(crate) fn tally(&self) -> Tally {
        let sent: Vec<_> = self.allowed.iter().map(|line| line.flood.sent()).collect();
        let missing = || -> u64 {
            let lines = self.allowed.iter().zip(&sent);
            // Numbers are in order, so all up to the highest arrival were sent.
            lines.map(|(line, sent)| line.missing(*sent)).sum()
        };
        let deadline = Instant::now() + LIMIT;
        let mut lost = missing();
        while lost > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            lost = missing();
        }
        Tally {
            allowed: sent.iter().sum(),
            lost,
            denied: self.denied.iter().map(|line| line.flood.sent()).sum(),
            leaked: self.denied.iter().map(|line| line.sink.counts(line.flood.id()).received).sum(),
        }
    }

    /// Waits until no more denied datagrams arrive, and returns when the last one did.
    pub(crate) fn denied_ends(&self, limit: Duration) -> Instant {
        let came = || self.denied.iter().map(|line| line.sink.counts(line.flood.id()).received).sum::<u64>();
        let (mut seen, mut last) = (came(), Instant::now());
        asked_every(Duration::from_millis(2), limit, "the end of denied arrivals", || {
            let now = came();
            if now != seen {
                (seen, last) = (now, Instant::now());
            }
            (last.elapsed() > Duration::from_secs(2)).then_some(last)
        })
    }

    /// Waits for an answer on every stream to a message from now on; each is still its first connection.
    pub(crate) fn streams_go_on(&self) {
        let now = Instant::now();
        for stream in &self.streams {
            stream.wait_alive_after(now, LIMIT).unwrap_or_else(|error| panic!("{error}: {:?}", stream.stats()));
        }
    }

    /// Waits until every allowed flood arrives.
    pub(crate) fn flows(&self) {
        within(LIMIT, "all allowed traffic", || {
            self.allowed.iter().all(|line| line.sink.counts(line.flood.id()).received > 0).then_some(())
        });
    }
}

impl Line {
    /// How many of the first `sent` have not arrived. (The sink counts the arrivals of all that were sent.)
    fn missing(&self, sent: u64) -> u64 {
        let counts = self.sink.counts(self.flood.id());
        let beyond = counts.highest.map_or(0, |highest| (highest + 1).saturating_sub(sent));
        sent.saturating_sub(counts.distinct.saturating_sub(beyond))
    }
}

impl Tally {
    /// The difference from an earlier one.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            allowed: self.allowed - earlier.allowed,
            lost: self.lost.saturating_sub(earlier.lost),
            denied: self.denied - earlier.denied,
            leaked: self.leaked - earlier.leaked,
        }
    }

    /// Prints it as the result of a test, and asserts that nothing was lost or leaked.
    pub(crate) fn demand_clean(self, what: &str) {
        println!("life: {what}: {self}");
        assert!(self.allowed > 0 && self.denied > 0, "{what}: no traffic");
        assert_eq!((self.lost, self.leaked), (0, 0), "{what}: lost and leaked");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allowed, lost, denied, leaked } = self;
        write!(f, "{lost} of {allowed} allowed packets lost, {leaked} of {denied} denied ones leaked")
    }
}
