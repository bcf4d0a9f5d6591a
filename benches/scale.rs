//! Figures for a full node: 250 local pods, 5,000 cluster pods, 500 policies.
//!
//! Run by `hack/bench`. Times are medians of several runs on this machine; compare machines by the ratio to `nft -f` of
//! the same ruleset in the same run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a program of measurements: it ends where it fails"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use palisade_dataplane::perform::{BridgeNetfilter, Kernel};
use palisade_dataplane::table::{Ownership, Table};
use palisade_engine::{Engine, Report};
use palisade_lab::Namespace;
use palisade_policy::index::Index;
use palisade_policy::input::{Change, State};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options, render};
use palisade_ruleset::text;
use palisade_testkit::cluster::{FULL_NODE, cluster, pod};
use palisade_testkit::kernel::{hand_in, list};

/// Runs of each measurement.
const RUNS: usize = 7;

/// Limit for rendering, and limit for the kernel's part.
const BUDGET: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let state = cluster(FULL_NODE);
    let rendering = median(|| time(|| drop(whole(&state))));
    let ruleset = whole(&state);
    let rules: usize = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
    let elements: usize = ruleset.sets.values().map(|set| set.elements.len()).sum();
    println!("{FULL_NODE:?}");
    println!("{} chains, {rules} rules, {} sets, {elements} elements", ruleset.chains.len(), ruleset.sets.len());
    println!("compile and render, from scratch     {:>9.1} ms", milliseconds(rendering));

    let netlink = median(|| fresh(|| time(|| replace(&ruleset))));
    let script = text::script(&ruleset);
    let nft = median(|| fresh(|| time(|| load(&script))));
    println!("kernel takes it, by netlink          {:>9.1} ms", milliseconds(netlink));
    println!("the same by nft -f                   {:>9.1} ms", milliseconds(nft));
    println!("netlink to nft -f                    {:>9.2}", netlink.as_secs_f64() / nft.as_secs_f64());
    changes(&state);
    if rendering < BUDGET && netlink < BUDGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A pod is deleted and created again: from event to kernel, without the API server's part.
fn changes(state: &State) {
    let mut times: BTreeMap<&str, Vec<(Duration, usize)>> = BTreeMap::new();
    fresh(|| {
        let mut kernel = Kernel::new(Ownership::Plain, BridgeNetfilter::Check);
        let mut engine = Engine::new("node-0", palisade_engine::Options::default());
        list(&mut engine, state);
        settle(&mut engine, &mut kernel);
        for _ in 0..50 {
            for (kind, number) in [("local pod", 17), ("remote pod", 4711)] {
                let subject = pod(FULL_NODE, number);
                for change in [Change::PodGone(subject.key.clone()), Change::Pod(subject)] {
                    let started = Instant::now();
                    hand_in(&mut engine, change);
                    let (enforced, operations) = settle(&mut engine, &mut kernel);
                    let enforced = enforced.expect("the change is in the ruleset");
                    times.entry(kind).or_default().push((enforced - started, operations));
                }
            }
        }
    });
    for (kind, mut samples) in times {
        samples.sort();
        let (middle, operations) = samples[samples.len() / 2];
        println!("one {kind:<10} gone or back, committed {:>9.2} ms, {operations} operations", milliseconds(middle));
    }
}

/// Performs all pending steps. Returns when the first commit was complete, and the operations of all commits.
fn settle(engine: &mut Engine, kernel: &mut Kernel) -> (Option<Instant>, usize) {
    let (mut enforced, mut sum) = (None, 0);
    while let Some(step) = engine.next_step() {
        let done = kernel.perform(step, engine.ruleset()).expect("nothing is asked here");
        engine.done(done);
        for report in engine.take_reports() {
            match report {
                Report::Committed { operations, .. } => {
                    enforced.get_or_insert_with(Instant::now);
                    sum += operations;
                }
                Report::Failed { trouble, .. } => panic!("{trouble}"),
                _ => {}
            }
        }
    }
    (enforced, sum)
}

fn whole(state: &State) -> Ruleset {
    render(Index::build("node-0", state).compiled(), &Options::default())
}

/// Runs in a new network namespace.
fn fresh<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Namespace::new("bench").expect("CAP_SYS_ADMIN, for a network namespace").run(body).unwrap()
}

fn replace(ruleset: &Ruleset) {
    Table::open(Ownership::Plain).unwrap().replace(ruleset).unwrap();
}

fn load(script: &str) {
    let mut nft =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft, from package nftables");
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
}

fn time(body: impl FnOnce()) -> Duration {
    let started = Instant::now();
    body();
    started.elapsed()
}

fn median(mut measure: impl FnMut() -> Duration) -> Duration {
    let mut samples: Vec<_> = (0..RUNS).map(|_| measure()).collect();
    samples.sort();
    samples[samples.len() / 2]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
