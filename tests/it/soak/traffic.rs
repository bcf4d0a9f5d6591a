//! Streams during all changes, and the possible faults.

use std::fmt;

use palisade_lab::{Flood, Flow as Shot, Sink};
use palisade_policy::flow::{Flow, NodeFacts, Verdict};
use palisade_policy::input::State;
use palisade_policy::reference::Reference;

use crate::soak::world::{STREAM_PORT, World};

/// Datagrams a second of each stream, few, to leave the machine to the agent.
const RATE: u32 = 2_000;

/// A fault, which ends a run.
pub(crate) enum Fault {
    /// A packet arrived that no policy allows.
    Leak(String),
    /// A packet did not arrive that policies allow.
    Loss(String),
    /// The table is not what the manifests say.
    Divergence(String),
    /// The agent has grown.
    Held(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leak(what) => write!(f, "leaked: {what}"),
            Self::Loss(what) => write!(f, "lost: {what}"),
            Self::Divergence(what) | Self::Held(what) => f.write_str(what),
        }
    }
}

/// A packet to send, and its expected fate.
pub(crate) struct Probe {
    pub(crate) shot: Shot,
    pub(crate) allowed: bool,
    /// The last change does not affect it: its verdict is the same before, during and after.
    pub(crate) is_unchanged: bool,
}

impl Probe {
    pub(crate) fn words(&self) -> String {
        format!("{} {}", self.shot, if self.allowed { "did not arrive" } else { "arrived" })
    }

    pub(crate) fn fault(&self) -> Fault {
        if self.allowed { Fault::Loss(self.words()) } else { Fault::Leak(self.words()) }
    }
}

/// Whether a state allows a flow.
pub(crate) fn allows(state: &State, flow: &Flow) -> bool {
    let facts = NodeFacts::default();
    Reference::new(state, &facts).evaluate(flow).unwrap().verdict == Verdict::Allow
}

/// A stream that is always allowed, and one that never is.
pub(crate) struct Streams {
    sink: Sink,
    allowed: Flood,
    denied: Flood,
    /// Packets that queues had dropped before the streams began.
    excused: u64,
    counted: u64,
}

impl Streams {
    pub(crate) fn start(world: &World) -> Self {
        let [server, allowed, denied] = world.stream_pods();
        let address = server.ipv4().unwrap();
        let sink = Sink::open(server, address, STREAM_PORT).unwrap();
        let excused = world.lab().queue_drops().unwrap();
        let start = |from| Flood::start(&Shot::udp(from, address, STREAM_PORT), Some(RATE)).unwrap();
        let (allowed, denied) = (start(allowed), start(denied));
        Self { sink, allowed, denied, excused, counted: 0 }
    }

    /// Returns how many more packets were sent; a fault if one of them leaked or was lost.
    pub(crate) fn check(&mut self, world: &World) -> Result<u64, Fault> {
        let (allowed, denied) = (self.allowed.sent(), self.denied.sent());
        world.lab().settle().unwrap();
        let leaked = self.sink.counts(self.denied.id()).received;
        if leaked > 0 {
            return Err(Fault::Leak(format!("{leaked} of the stream that is always denied")));
        }
        let missing = self.sink.counts(self.allowed.id()).missing(allowed);
        let excused = world.lab().queue_drops().unwrap() - self.excused + self.sink.socket_drops().unwrap();
        if missing > excused {
            return Err(Fault::Loss(format!("{missing} of the stream that is always allowed, {excused} by queues")));
        }
        let more = allowed + denied - self.counted;
        self.counted = allowed + denied;
        Ok(more)
    }
}
