//! Faults that an agent must bear, each with real packets on their way: what leaks, what is lost, who says so, and how soon
//! the truth is in force again.
//!
//! Every test prints a row of `hack/faults`, which runs them on a release binary. Those that take minutes are ignored here, and
//! sizes are small; `hack/faults --all` runs everything at full size. `PALISADE_BIN` is the program to test, if not the one
//! that cargo built; `PALISADE_FAULTS=full` asks for full sizes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

#[path = "faults/agent.rs"]
mod agent;
#[path = "faults/around.rs"]
mod around;
#[path = "faults/case.rs"]
mod case;
#[path = "faults/demand.rs"]
mod demand;
#[path = "faults/endings.rs"]
mod endings;
#[path = "faults/flows.rs"]
mod flows;
#[path = "faults/minutes.rs"]
mod minutes;
#[path = "faults/monitor.rs"]
mod monitor;
#[path = "faults/reuse.rs"]
mod reuse;
#[path = "faults/scene.rs"]
mod scene;
#[path = "faults/shapes.rs"]
mod shapes;
#[path = "faults/sizes.rs"]
mod sizes;
#[path = "faults/source.rs"]
mod source;
#[path = "faults/wide.rs"]
mod wide;
