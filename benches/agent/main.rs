//! What an agent costs: its start, its memory, the time from an event to the kernel.
//!
//! Run by `hack/bench agent [--quick] [--json FILE]`. An API server in this process serves clusters of several sizes to an
//! agent in a network namespace, and the kernel's own notices of changes say when an event has reached it. The agent, the
//! API server and the measuring share the machine's cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a program of measurements: it ends where it fails"
)]

mod bed;
mod churn;
mod notices;
mod numbers;
mod process;
mod rows;
mod ruleset;
mod workload;

use std::path::PathBuf;

use bed::Bed;
use churn::Scene;
use numbers::Samples;
use process::Agent;
use rows::Rows;
use serde_json::Value;
use workload::Workload;

/// The command line.
struct Run {
    quick: bool,
    json: Option<PathBuf>,
    /// Only these clusters.
    only: Vec<String>,
}

fn main() {
    let run = arguments();
    let mut rows = Rows::default();
    let rounds = if run.quick { 60 } else { 300 };
    if run.only.is_empty() {
        ruleset::measure(&mut rows, if run.quick { 5 } else { 9 });
    }
    for workload in Workload::ALL.into_iter().filter(|workload| run.has(*workload)) {
        println!("\n{workload:?}: {}", workload.describe());
        let bed = Bed::new(workload);
        let agent = start(&mut rows, workload, &bed, if run.quick { 3 } else { 5 });
        let scene = Scene::new(workload, &bed, &agent);
        by_size(&mut rows, &scene);
        match workload {
            Workload::W1 | Workload::W8 => churn::single(&mut rows, &scene, rounds / 2),
            Workload::W2 => {
                churn::single(&mut rows, &scene, rounds);
                churn::heartbeats(&mut rows, &scene, rounds);
                churn::rolling(&mut rows, &scene, rounds, 20);
                churn::namespace(&mut rows, &scene, rounds / 4);
            }
            Workload::W3 => churn::burst(&mut rows, &scene, if run.quick { 200 } else { 1_000 }, 100),
            Workload::W5 | Workload::W6 => {}
        }
    }
    let pod = workload::served_pod(&Workload::W2.pod(0)).to_string().len();
    rows.add("size/pod", "bytes", f64::from(u32::try_from(pod).expect("a small object")), None, None);
    if let Some(file) = run.json {
        std::fs::write(file, format!("{:#}\n", Value::Array(rows.0))).expect("the JSON file");
    }
}

impl Run {
    fn has(&self, workload: Workload) -> bool {
        if self.only.is_empty() {
            !self.quick || workload != Workload::W6
        } else {
            self.only.contains(&workload.name())
        }
    }
}

fn arguments() -> Run {
    let mut run = Run { quick: false, json: None, only: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => run.quick = true,
            "--json" => run.json = Some(arguments.next().expect("--json FILE").into()),
            // Cargo adds this.
            "--bench" => {}
            name if Workload::ALL.iter().any(|workload| workload.name() == name) => run.only.push(argument),
            other => panic!("unknown argument {other}: --quick, --json FILE, W1, W2, W3, W5, W6, W8"),
        }
    }
    run
}

/// Starts without a table, then with the table of the last start. Returns the last agent.
fn start(rows: &mut Rows, workload: Workload, bed: &Bed, runs: usize) -> Agent {
    let (mut cold, mut waits, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let (start, others) = bed.start_afresh();
        waits.extend(others);
        memory.push((start.agent.memory("VmRSS"), start.agent.memory("VmHWM")));
        cold.push((start.whole, start.own, start.operations));
    }
    let name = workload.name();
    let (whole, own) = match workload {
        Workload::W2 => (None, Some(100.0)),
        Workload::W3 => (Some(1_000.0), None),
        Workload::W6 => (Some(2_500.0), None),
        Workload::W1 | Workload::W5 | Workload::W8 => (None, None),
    };
    rows.median(
        &format!("{name}/cold start/whole"),
        "ms",
        &Samples::milliseconds(cold.iter().map(|run| &run.0)),
        whole,
    );
    rows.median(
        &format!("{name}/cold start/own work"),
        "ms",
        &Samples::milliseconds(cold.iter().map(|run| &run.1)),
        own,
    );
    rows.median(
        &format!("{name}/cold start/operations"),
        "operations",
        &Samples::of(cold.iter().map(|run| run.2)),
        None,
    );
    let agent = start_again(rows, workload, bed, runs);
    let (steady, peak) = match workload {
        Workload::W2 => (Some(20.0), None),
        Workload::W3 => (Some(80.0), None),
        Workload::W6 => (None, Some(200.0)),
        Workload::W1 | Workload::W5 | Workload::W8 => (None, None),
    };
    rows.median(&format!("{name}/memory"), "MiB", &Samples::of(memory.iter().map(|run| run.0)), steady);
    rows.median(&format!("{name}/memory, peak"), "MiB", &Samples::of(memory.iter().map(|run| run.1)), peak);
    let waits = Samples::milliseconds(&waits);
    rows.median(&format!("{name}/cold start/another table's commit, median"), "ms", &waits, None);
    rows.add(&format!("{name}/cold start/another table's commit, 99 %"), "ms", waits.quantile(0.99), None, Some(2.0));
    rows.add(&format!("{name}/cold start/another table's commit, longest"), "ms", waits.quantile(1.0), None, None);
    agent
}

/// Starts with the table of the last start.
fn start_again(rows: &mut Rows, workload: Workload, bed: &Bed, runs: usize) -> Agent {
    let (mut last, mut adopted) = (None, Vec::new());
    for _ in 0..runs {
        drop(last.take());
        let start = bed.start();
        adopted.push((start.whole, start.own, start.operations));
        last = Some(start.agent);
    }
    let name = workload.name();
    let own = if workload == Workload::W2 { Some(60.0) } else { None };
    rows.median(
        &format!("{name}/start with its table/whole"),
        "ms",
        &Samples::milliseconds(adopted.iter().map(|run| &run.0)),
        None,
    );
    rows.median(
        &format!("{name}/start with its table/own work"),
        "ms",
        &Samples::milliseconds(adopted.iter().map(|run| &run.1)),
        own,
    );
    let operations = Samples::of(adopted.iter().map(|run| run.2));
    rows.median(&format!("{name}/start with its table/operations"), "operations", &operations, Some(0.0));
    last.expect("a start")
}

/// What is compared between clusters of different sizes.
fn by_size(rows: &mut Rows, scene: &Scene<'_>) {
    if matches!(scene.workload, Workload::W5 | Workload::W8) {
        return;
    }
    let pods = scene.workload.size().pods;
    rows.add(&format!("growth/memory/{pods}"), "MiB", scene.agent.memory("VmRSS"), None, None);
    let events = (0..20).map(|round| churn::relabel_remote(scene.workload, round)).collect::<Vec<_>>();
    let effects: Vec<_> = events.into_iter().map(|event| scene.effect(|api| api.put(event)).first).collect();
    rows.median(&format!("growth/pod event/{pods}"), "ms", &Samples::milliseconds(&effects), None);
}
