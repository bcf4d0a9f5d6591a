//! The dataplane against a real kernel: every test in a network namespace of its own, as root.

#[path = "kernel/commit.rs"]
mod commit;
#[path = "kernel/conntrack.rs"]
mod conntrack;
#[path = "kernel/generate.rs"]
mod generate;
#[path = "kernel/host.rs"]
mod host;
#[path = "kernel/owner.rs"]
mod owner;
#[path = "kernel/roundtrip.rs"]
mod roundtrip;
#[path = "kernel/space.rs"]
mod space;
