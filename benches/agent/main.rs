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
#[path = "../common/clusters.rs"]
mod clusters;
mod neighbour;
mod netlink;
mod notices;
mod numbers;
mod process;
mod rows;
mod ruleset;
#[path = "../common/run.rs"]
mod run;
mod server;
mod workload;

use std::time::Duration;

use bed::{Bed, Times};
use churn::Scene;
use numbers::Samples;
use process::Agent;
use rows::Rows;
use run::Run;
use workload::Workload;

fn main() {
    let run = Run::read(&Workload::ALL.map(Workload::name));
    let mut rows = Rows::default();
    let rounds = if run.quick { 60 } else { 300 };
    if run.only.is_empty() {
        ruleset::measure(&mut rows, if run.quick { 5 } else { 9 });
    }
    for workload in Workload::ALL.into_iter().filter(|workload| is_asked(&run, *workload)) {
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
        drop(agent);
        if matches!(workload, Workload::W1 | Workload::W2) {
            server::measure(&mut rows, workload, run.quick);
        }
    }
    let pod = workload::served_pod(&Workload::W2.pod(0)).to_string().len();
    rows.add("size/pod", "bytes", f64::from(u32::try_from(pod).expect("a small object")), None, None);
    run.write(rows.0);
}

/// Whether the command line asks for this cluster.
fn is_asked(run: &Run, workload: Workload) -> bool {
    if run.only.is_empty() { !run.quick || workload != Workload::W6 } else { run.only.contains(&workload.name()) }
}

/// Starts without a table, then with the table of the last start. Returns the last agent.
fn start(rows: &mut Rows, workload: Workload, bed: &Bed, runs: usize) -> Agent {
    let (mut cold, mut waits, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let (start, others) = bed.start_afresh();
        waits.extend(others);
        memory.push((start.agent.memory("VmRSS"), start.agent.memory("VmHWM")));
        cold.push(start.times);
    }
    let name = workload.name();
    let targets = match workload {
        Workload::W2 => [None, Some(100.0), None],
        Workload::W3 => [Some(1_000.0), None, None],
        Workload::W6 => [Some(2_500.0), None, None],
        Workload::W1 | Workload::W5 | Workload::W8 => [None; 3],
    };
    show(rows, &format!("{name}/cold start"), &cold, targets);
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
        adopted.push(start.times);
        last = Some(start.agent);
    }
    let own = if workload == Workload::W2 { Some(60.0) } else { None };
    show(rows, &format!("{}/start with its table", workload.name()), &adopted, [None, own, Some(0.0)]);
    last.expect("a start")
}

fn show(rows: &mut Rows, id: &str, starts: &[Times], [whole, own, operations]: [Option<f64>; 3]) {
    let times = |time: fn(&Times) -> &Duration| Samples::milliseconds(starts.iter().map(time));
    rows.median(&format!("{id}/whole"), "ms", &times(|start| &start.whole), whole);
    rows.median(&format!("{id}/own work"), "ms", &times(|start| &start.own), own);
    let counts = Samples::of(starts.iter().map(|start| start.operations));
    rows.median(&format!("{id}/operations"), "operations", &counts, operations);
}

/// What is compared between clusters of different sizes.
fn by_size(rows: &mut Rows, scene: &Scene<'_>) {
    if matches!(scene.workload, Workload::W5 | Workload::W8) {
        return;
    }
    let pods = scene.workload.size().pods;
    rows.add(&format!("growth/memory/{pods}"), "MiB", scene.agent.memory("VmRSS"), None, None);
    let events = (0..20).map(|round| churn::relabel_remote(scene.workload, round)).collect::<Vec<_>>();
    let effects = scene.effects(events);
    let times = Samples::milliseconds(effects.iter().map(|effect| &effect.first));
    rows.median(&format!("growth/pod event/{pods}"), "ms", &times, None);
}
