//! The engine on generated clusters, at scale: the model's verdicts against the evaluator's, what must not depend on how the
//! objects came, and what packets meet while one ruleset becomes another.
//!
//! `hack/fuzz-semantics` runs it with more of everything (`PALISADE_VERDICTS`); see [`palisade_testkit::trials`].

mod canonical;
mod metamorphic;
mod renaming;
mod transitions;
mod verdicts;
