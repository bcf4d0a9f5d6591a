//! Life in a real cluster: `hack/e2e` runs this against the one that `hack/cluster up` started, with the image and the
//! manifest that are shipped. Packets are sent from the network namespaces of real pods, and counted one by one.
//!
//! Each test says what it lost and leaked on a line that begins with `life:`.
//!
//! Seen to fail when the manifests
//! - give the agent NET_RAW too, clear the table when an agent starts, or leave a node without an agent (`agent.rs`,
//!   `services.rs`, `starting.rs`);
//! - have new pods pass until their address is known (`starting.rs`);
//! - pass a node by when they clean up (`install.rs`);
//!
//! and when `docs/install.md` says other words than a command (`manual.rs`).

mod agent;
mod cluster;
mod install;
mod manual;
mod outage;
mod scene;
mod services;
mod starting;
mod traffic;
