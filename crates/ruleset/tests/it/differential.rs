//! The engine on generated clusters, at scale: the model's verdicts against the evaluator's, independence of the order
//! of events, and the fate of packets while one ruleset replaces another.
//!
//! `hack/fuzz-semantics` runs more of everything (`PALISADE_VERDICTS`); see [`palisade_testkit::trials`].

mod canonical;
mod metamorphic;
mod renaming;
mod transitions;
mod untracked;
mod verdicts;
