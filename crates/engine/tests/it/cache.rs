//! The verdict cache comes into use, whatever happens on the way.

use palisade_engine::{Engine, Input, Options};
use palisade_ruleset::cache::Slice;
use palisade_testkit::kernel::{ModelKernel, list};

use crate::order::{NODE, state};

/// The node's ranges arrive at any step: what was planned is dropped, and the verdict cache comes into use all the same.
#[test]
fn the_verdict_cache_comes_into_use_whenever_work_is_dropped() {
    let with_cache = || {
        let options = Options { verdict_cache: Some(Slice::default()), ..Options::default() };
        let mut engine = Engine::new(NODE, options);
        list(&mut engine, &state(&["a"]));
        engine
    };
    let settle = |engine: &mut Engine, kernel: &mut ModelKernel, steps: usize| {
        let mut done = 0;
        while done < steps
            && let Some(step) = engine.next_step()
        {
            let outcome = kernel.perform(step, engine.ruleset()).expect("nothing is asked");
            engine.done(outcome);
            done += 1;
        }
        done
    };
    let all = settle(&mut with_cache(), &mut ModelKernel::default(), usize::MAX);
    assert!(all > 6, "{all} steps");
    for interrupted in 0..all {
        let (mut engine, mut kernel) = (with_cache(), ModelKernel::default());
        settle(&mut engine, &mut kernel, interrupted);
        // The step after these is under way.
        let step = engine.next_step();
        engine.take(Input::PodRanges(["10.0.0.0/24".parse().unwrap()].into()));
        let outcome = step.and_then(|step| kernel.perform(step, engine.ruleset()));
        outcome.into_iter().for_each(|outcome| engine.done(outcome));
        settle(&mut engine, &mut kernel, usize::MAX);
        assert!(engine.is_settled() && engine.stamp().is_some(), "interrupted after {interrupted} steps");
        assert!(kernel.is_as_wanted(&engine), "interrupted after {interrupted} steps");
    }
}
