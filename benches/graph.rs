//! How long `palisade graph -o html` takes for a cluster of 300 workloads, and how long Chromium takes to open the page.
//!
//! Run by `hack/bench graph`. Times are medians of several runs on this machine. The baselines of the same run are
//! `palisade pods`, which reads the same manifests, and an empty page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program of measurements: it ends where it fails"
)]

#[allow(dead_code, reason = "measurements press no keys")]
#[path = "../tests/it/common/browser.rs"]
mod browser;
#[path = "../tests/it/graph/sample.rs"]
mod sample;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use browser::Browser;

/// Runs of each measurement.
const RUNS: usize = 11;
/// Seconds that writing and opening may take.
const TARGET: f64 = 1.0;

fn main() {
    let directory = std::env::temp_dir().join(format!("palisade-bench-graph-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory for temporary files");
    let [manifests, page, empty] = ["objects.yaml", "graph.html", "empty.html"].map(|name| directory.join(name));
    fs::write(&manifests, sample::manifests()).expect("the manifests");
    fs::write(&empty, "<!doctype html><title>Empty</title>").expect("the empty page");
    println!("{} workloads; medians of {RUNS} runs, and the shortest and longest", sample::WORKLOADS);

    let html = run(&manifests, "graph -o html");
    fs::write(&page, &html).expect("the page");
    let written = times(|| _ = run(&manifests, "graph -o html"));
    let read = times(|| _ = run(&manifests, "pods"));
    row("graph -o html: manifests to page", &written, &read, "palisade pods");

    let mut browser = Browser::start();
    let opened = times(|| open(&mut browser, &page));
    let nothing = times(|| open(&mut browser, &empty));
    row("Chromium: address to drawn page", &opened, &nothing, "an empty page");
    assert_eq!(browser.complaints(), Vec::<String>::new(), "the console");

    println!("the page has {} KiB", html.len() / 1024);
    fs::remove_dir_all(&directory).expect("the directory for temporary files");
}

fn run(manifests: &Path, verb: &str) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    let output = command.args(verb.split(' ')).arg("-f").arg(manifests).output().expect("palisade");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Opens a page and waits until it is drawn: the second frame begins when the first is done.
fn open(browser: &mut Browser, page: &Path) {
    browser.open(page);
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))");
}

/// Seconds, sorted.
fn times(mut work: impl FnMut()) -> Vec<f64> {
    work();
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn row(what: &str, times: &[f64], baseline: &[f64], named: &str) {
    let median = |times: &[f64]| times.get(times.len() / 2).copied().unwrap_or_default();
    let (time, least, most) = (median(times), times.first().unwrap(), times.last().unwrap());
    println!(
        "{what:34} {:>5.0} ms ({:.0} to {:.0}), {:.1} times {named} ({:.0} ms); target {:.0} ms: {}",
        time * 1e3,
        least * 1e3,
        most * 1e3,
        time / median(baseline),
        median(baseline) * 1e3,
        TARGET * 1e3,
        if time < TARGET { "met" } else { "MISSED" },
    );
}
