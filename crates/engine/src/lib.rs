//! The order of an enforcement: objects in, steps on the kernel out.
//!
//! Pure: no I/O, no async, no clock, no environment. An [`Engine`] owns the index and the renderer of one node. Its
//! driver passes in what the source of objects reports ([`Engine::take`]), performs the [`Step`] that
//! [`Engine::next_step`] returns, and passes in the result ([`Engine::done`]). The agent, the tests and the benchmarks
//! drive the same engine, so the order that they prove holds for all of them.
//!
//! ```text
//! first, and after anything failed:   Open ▸ Look ▸ Read ▸ (Wake) ▸ Commit… | Replace ▸ Wait ▸ Forget
//! after a change of objects:          Commit… ▸ Look, if local IPs changed ▸ Commit… ▸ Wait ▸ Forget
//! when that is done:                  ClearStamps, if old ones are left ▸ Commit, for the verdict cache
//! ```
//!
//! - A failed step leads to reading the table again, never to a commit on top of an unknown one.
//! - Flows of an IP that left its pod are due until their deletion succeeds. They are deleted after the commit that
//!   closes the IP, and before the one that gives it to another pod.
//! - A list or a deletion that would open pods is believed only after a check: see [`doubt`] and [`Ask`].

mod adopt;
mod cache;
mod cause;
pub mod doubt;
mod engine;
mod freeze;
mod jobs;
mod report;
mod source;
mod step;
mod witness;

pub use cause::Cause;
pub use engine::{BackOff, Engine, Options};
pub use palisade_policy::input::{ListPart, NamespaceAnswer, ObjectAnswer};
pub use report::{CommitKind, Report};
pub use source::Input;
pub use step::{Ask, Class, Done, Forgotten, NodeView, Present, Step, Trouble};
