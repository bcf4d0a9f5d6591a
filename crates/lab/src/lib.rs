//! A network-namespace lab: nodes, pods, Services and probes.
//!
//! A [`Lab`] is a small cluster's network made of anonymous network namespaces of this process: [`Node`]s joined by a
//! fabric, [`Pod`]s behind a bridge or behind routes, [`Host`]s outside, [`Service`]s by destination NAT. Nothing has a
//! name in the file system, so nothing is left behind however the process ends, and labs never collide.
//!
//! What a lab is for:
//! - [`probe_all`]: does an application reach another one? Real sockets, many at once.
//! - [`Lab::shoot`]: does a packet of this flow pass? One crafted packet per flow, thousands per second.
//! - [`Flood`] and [`Sink`]: is any packet of a fast stream lost, or passed, at any moment?
//! - [`Stream`]: when exactly is a running connection cut, and when does it resume?
//! - [`packet`], [`Namespace::send_packet`], [`FrameSocket`]: packets no application would send.
//!
//! It needs root, or as an ordinary user `unshare -Urnm`; iproute2 and nftables; and br_netfilter, already loaded, for
//! [`Layout::Bridge`]. It knows nothing about policies.
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

mod enter;
mod error;
mod family;
mod namespace;
mod process;
mod topology;
mod traffic;

pub use error::{Error, Result};
pub use family::Family;
pub use namespace::Namespace;
#[doc(no_inline)]
pub use nix::sys::signal::Signal;
pub use process::{Child, check_requirements};
pub use topology::host::Host;
pub use topology::lab::{Builder, Lab};
pub use topology::layout::Layout;
pub use topology::node::Node;
pub use topology::pod::{Choice, Pod, PodSpec};
pub use topology::service::{ExternalTraffic, Service};
pub use traffic::flood::{Flood, FloodReport, Sink, SinkCounts};
pub use traffic::flow::{Flow, Listen, Outcome, Protocol};
pub use traffic::packet;
pub use traffic::probe::{DEFAULT_DEADLINE, probe, probe_all};
pub use traffic::raw::FrameSocket;
pub use traffic::serve::Server;
pub use traffic::stream::{Stream, StreamStats};
