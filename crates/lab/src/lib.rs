//! A network-namespace lab: nodes, pods, Services and probes.
//!
//! A [`Lab`] is a small cluster's network made of anonymous network namespaces of this process: [`Node`]s joined by a
//! fabric, [`Pod`]s behind a bridge or behind routes, [`Host`]s outside, [`Service`]s by destination NAT. Nothing of it
//! has a name in the file system, so nothing is left behind however the process ends, and labs never collide.
//!
//! What a lab is for:
//! - [`probe_all`]: does an application reach another one? Real sockets, many at once.
//! - [`Lab::shoot`]: is a packet of this flow let through? One crafted packet per flow, thousands per second.
//! - [`Flood`] and [`Sink`]: is any packet of a fast stream lost, or let through, at any moment?
//! - [`Stream`]: when exactly is a running conversation cut, and when does it live again?
//! - [`packet`], [`Namespace::send_packet`], [`FrameSocket`]: packets no application would send.
//!
//! It needs root (or a user namespace of its own), iproute2 and nftables. It knows nothing about policies.
//!
//! ```no_run
//! use palisade_lab::{Flow, Lab, Layout, Listen, probe_all};
//! use std::time::Duration;
//!
//! # fn main() -> palisade_lab::Result<()> {
//! let lab = Lab::builder().nodes(2, Layout::Bridge).build()?;
//! let client = lab.node(1).add_pod("default/client")?;
//! let server = lab.node(2).add_pod("default/server")?;
//! server.serve(&[Listen::tcp(80)])?;
//! let to = server.ipv4().expect("the pod is dual-stack");
//! let outcomes = probe_all(&[Flow::tcp(&client, to, 80)], Duration::from_millis(300))?;
//! assert!(outcomes[0].is_reachable());
//! # Ok(())
//! # }
//! ```

mod address;
mod enter;
mod error;
mod flood;
mod flow;
mod host;
mod lab;
mod link;
mod namespace;
mod node;
pub mod packet;
mod pod;
mod probe;
mod process;
mod raw;
mod serve;
mod service;
mod shoot;
mod signal;
mod socket;
mod stream;

pub use address::Family;
pub use error::{Error, Result};
pub use flood::{Flood, FloodReport, Sink, SinkCounts};
pub use flow::{Flow, Listen, Outcome, Protocol};
pub use host::Host;
pub use lab::{Builder, Lab};
pub use namespace::Namespace;
#[doc(no_inline)]
pub use nix::sys::signal::Signal;
pub use node::{Layout, Node};
pub use pod::{Choice, Pod, PodSpec};
pub use probe::{DEFAULT_DEADLINE, probe, probe_all};
pub use process::{Child, check_requirements};
pub use raw::FrameSocket;
pub use serve::Server;
pub use service::{ExternalTraffic, Service};
pub use stream::{Stream, StreamStats};
