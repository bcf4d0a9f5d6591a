//! Tests on a real cluster: `hack/e2e` runs them on the one that `hack/cluster up` started, with the shipped image and
//! manifest. Packets are sent from the network namespaces of real pods, and counted one by one.
//!
//! Each test prints what it lost and leaked on a line that begins with `life:`.
//!
//! Seen to fail when the manifests
//! - give the agent NET_RAW too, delete the table when an agent starts, or leave a node without an agent (`agent.rs`,
//!   `services.rs`, `starting.rs`);
//! - have new pods pass until their IP is known (`starting.rs`);
//! - skip a node at cleanup (`install.rs`);
//!
//! and when `docs/install.md` has other output than a command (`manual.rs`).

mod agent;
mod cluster;
mod install;
mod manual;
mod outage;
mod scene;
mod services;
mod starting;
mod traffic;
