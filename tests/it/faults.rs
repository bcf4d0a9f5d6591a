//! Faults that an agent must survive, each under real traffic: packets leaked and lost, the report of the fault, and
//! the time until changes are in force again.
//!
//! Every test prints a row of `hack/faults`, which runs them with a release binary. Tests that take minutes are ignored
//! here, and sizes are small; `hack/faults --all` runs everything at full size. `PALISADE_BIN` is the program to test
//! instead of the one that cargo built; `PALISADE_FAULTS=full` sets full sizes.

mod agent;
mod around;
mod case;
mod demand;
mod endings;
mod flows;
mod minutes;
mod monitor;
mod reuse;
mod scene;
mod shapes;
mod sizes;
mod source;
mod wide;
