//! Runs thousands of trials on every CPU and reports their number and seeds.
//!
//! `PALISADE_SEED` sets another first seed. Every case has its own seed, and a failing one prints how to repeat it
//! alone.

#![expect(clippy::panic, clippy::expect_used, clippy::print_stdout, reason = "it ends tests and reports on them")]

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// The first seed of every run, so that it always repeats what it once found.
const FIXED: u64 = 2017;
/// Time limit for shrinking a failing case, in milliseconds.
const SHRINKING: u32 = 60_000;

/// The number of trials of one kind, and their first seeds.
pub struct Trials {
    what: &'static str,
    seeds: Vec<u64>,
    wanted: usize,
}

/// The progress of one seed.
struct Progress {
    seed: u64,
    wanted: usize,
    /// Cases, each with its own seed: this one and the following.
    cases: AtomicUsize,
    /// The comparisons in them.
    count: AtomicUsize,
}

impl Trials {
    /// `default` trials, unless the environment variable `variable` has another number; half from a fixed seed and half
    /// from a fresh one, or all from the one in the environment.
    ///
    /// # Panics
    /// If the environment variable is not a number.
    pub fn of(what: &'static str, variable: &str, default: usize) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
        };
        let fresh = || RandomState::new().build_hasher().finish() % 1_000_000_000;
        let seeds = number("PALISADE_SEED").map_or_else(|| vec![FIXED, fresh()], |seed| vec![seed]);
        let wanted = number(variable).map_or(default, |count| usize::try_from(count).unwrap_or(usize::MAX));
        Self { what, seeds, wanted }
    }

    /// This many times fewer.
    #[must_use]
    pub fn divided(mut self, by: usize) -> Self {
        self.wanted = self.wanted.div_ceil(by);
        self
    }

    /// This many times more.
    #[must_use]
    pub fn times(mut self, by: usize) -> Self {
        self.wanted *= by;
        self
    }

    /// Tries cases on every CPU until the count is reached; `check` counts its comparisons.
    ///
    /// # Panics
    /// At the first case that fails, with the shrunk case and its seed.
    pub fn run<S>(
        &self,
        strategy: impl Fn() -> S + Sync,
        check: impl Fn(&S::Value) -> Result<usize, TestCaseError> + Sync,
    ) where
        S: Strategy,
        S::Value: Debug,
    {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        self.shares(|progress| {
            thread::scope(|scope| {
                let work = || self.work(progress, &strategy(), &check);
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                workers.into_iter().for_each(|worker| worker.join().expect("the failure is printed above"));
            });
        });
    }

    /// Like [`Trials::run`], one case after the other, for checks that share state.
    pub fn run_alone<S>(&self, strategy: &S, check: impl Fn(&S::Value) -> Result<usize, TestCaseError>)
    where
        S: Strategy,
        S::Value: Debug,
    {
        self.shares(|progress| self.work(progress, strategy, &check));
    }

    /// Does the work of every seed and reports it.
    fn shares(&self, work: impl Fn(&Progress)) {
        let started = Instant::now();
        let wanted = self.wanted.div_ceil(self.seeds.len());
        let (mut cases, mut count) = (0, 0);
        for seed in &self.seeds {
            let progress = Progress { seed: *seed, wanted, cases: AtomicUsize::new(0), count: AtomicUsize::new(0) };
            work(&progress);
            cases += progress.cases.into_inner();
            count += progress.count.into_inner();
        }
        let seeds: Vec<_> = self.seeds.iter().map(u64::to_string).collect();
        // hack/fuzz-semantics adds these lines up.
        println!(
            "total {count} {} in {cases} cases, {:.1} s, seeds {} and following",
            self.what,
            started.elapsed().as_secs_f64(),
            seeds.join(" and ")
        );
    }

    fn work<S>(&self, progress: &Progress, strategy: &S, check: impl Fn(&S::Value) -> Result<usize, TestCaseError>)
    where
        S: Strategy,
        S::Value: Debug,
    {
        while progress.count.load(Ordering::Relaxed) < progress.wanted {
            let number = progress.cases.fetch_add(1, Ordering::Relaxed);
            let compared = self.case(progress.seed.wrapping_add(number as u64), strategy, &check);
            progress.count.fetch_add(compared, Ordering::Relaxed);
        }
    }

    fn case<S>(&self, seed: u64, strategy: &S, check: impl Fn(&S::Value) -> Result<usize, TestCaseError>) -> usize
    where
        S: Strategy,
        S::Value: Debug,
    {
        let compared = AtomicUsize::new(0);
        let ran = runner(seed).run(strategy, |case| {
            compared.store(check(&case)?, Ordering::Relaxed);
            Ok(())
        });
        match ran {
            Ok(()) => compared.into_inner(),
            Err(TestError::Fail(why, case)) => panic!(
                "{} differ\nrepeat with: hack/fuzz-semantics --seed {seed} --verdicts 1 --probes 1\n{why}\nin\n{case:?}",
                self.what
            ),
            Err(TestError::Abort(why)) => panic!("{} with seed {seed}: {why}", self.what),
        }
    }
}

/// A runner of a single case.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(seed.to_le_bytes()).for_each(|(byte, value)| *byte = value);
    // Without this, shrinking would end after four steps per case.
    let (max_shrink_time, max_shrink_iters) = (SHRINKING, 1_000_000);
    let config = Config { cases: 1, failure_persistence: None, max_shrink_time, max_shrink_iters, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
