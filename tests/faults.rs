//! Faults that an agent must survive, each under real traffic: packets leaked and lost, the report of the fault, and
//! the time until changes are in force again.
//!
//! Every test prints a row of `hack/faults`, which runs them with a release binary. Tests that take minutes are ignored
//! here, and sizes are small; `hack/faults --all` runs everything at full size. `PALISADE_BIN` is the program to test
//! instead of the one that cargo built; `PALISADE_FAULTS=full` sets full sizes.

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
