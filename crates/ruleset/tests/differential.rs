//! The engine on generated clusters, at scale: the model's verdicts against the evaluator's, what must not depend on how the
//! objects came, and what packets meet while one ruleset becomes another.
//!
//! `hack/fuzz-semantics` runs it with more of everything (`PALISADE_VERDICTS`); see [`palisade_testkit::trials`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in tests, also outside of test functions"
)]

#[path = "differential/canonical.rs"]
mod canonical;
#[path = "differential/metamorphic.rs"]
mod metamorphic;
#[path = "differential/renaming.rs"]
mod renaming;
#[path = "differential/transitions.rs"]
mod transitions;
#[path = "differential/verdicts.rs"]
mod verdicts;
