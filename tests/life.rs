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

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

#[path = "life/agent.rs"]
mod agent;
#[path = "life/cluster.rs"]
mod cluster;
#[path = "life/install.rs"]
mod install;
#[path = "life/manual.rs"]
mod manual;
#[path = "life/outage.rs"]
mod outage;
#[path = "life/scene.rs"]
mod scene;
#[path = "life/services.rs"]
mod services;
#[path = "life/starting.rs"]
mod starting;
#[path = "life/traffic.rs"]
mod traffic;
