//! Mistakes in policies.
//!
//! The checks, one module for each group of codes, are functions of the objects alone. The engine's own matchers decide
//! which policy selects which pod.

mod code;
mod dns;
mod effect;
mod ports;
mod remark;
mod selectors;
mod terms;

pub use code::{Code, Entry, Severity};
pub use remark::{Edit, Message, Remark};

use crate::input::Input;
use crate::view::View;

/// The remarks of the checks, and the work for them.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The remarks.
    pub remarks: Vec<Remark>,
    /// The comparisons of selectors, rules and ports that were made.
    pub work: u64,
}

/// Runs all checks on the objects.
pub fn check(input: &Input<'_>) -> Outcome {
    let view = View::new(input);
    let remarks =
        [terms::check(&view), selectors::check(&view), ports::check(&view), effect::check(&view), dns::check(&view)];
    Outcome { remarks: remarks.concat(), work: view.work() }
}
