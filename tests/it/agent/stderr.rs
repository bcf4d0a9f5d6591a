//! Policies are enforced whatever happens to stderr.

use std::io::{self, BufRead as _, BufReader};
use std::time::{Duration, Instant};

use palisade_lab::Signal;

use crate::agent::bed::{Bed, DENY, LISTEN};
use crate::common::running::Agent;

const DROPPED: &str = "palisade_log_lines_dropped_total";

/// Policies of a namespace without pods, each of which causes a warning, since it has no spec.
fn noise(round: usize) -> String {
    let policy = |number| {
        let name = format!("noise-{round}-{number}");
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: empty}}\n"
        )
    };
    (0..3_000).map(policy).collect()
}

#[test]
fn an_unread_or_closed_log_delays_nothing() {
    let bed = Bed::new("stderr");
    let (reader, stderr) = io::pipe().unwrap();
    let manifests = bed.manifests();
    let arguments = ["--manifests", manifests.to_str().unwrap()];
    let agent = Agent::start_with_stderr(bed.node(), LISTEN, &arguments, &bed.log(), stderr);
    agent.wait_ready();
    bed.assert_reached(true);
    let change = |what: &str, change: &dyn Fn()| {
        let committed = agent.commits("incremental");
        change();
        agent.wait(what, || agent.commits("incremental") > committed);
    };

    // Without a reader the pipe and then the queue fill up, and the rest is dropped.
    for round in 0.. {
        bed.write("noise.yaml", &noise(round));
        let policies = || {
            agent.find_metric("palisade_watch_events_total{resource=\"networkpolicy\",event=\"applied\"}").unwrap_or(0)
        };
        agent.wait("policies", || agent.metric(DROPPED) > 0 || policies() >= 3_000 * (round as u64 + 1));
        if agent.metric(DROPPED) > 0 {
            break;
        }
        assert!(round < 20, "nothing is dropped");
    }
    bed.remove("noise.yaml");
    change("a policy without a reader", &|| bed.write("deny.yaml", DENY));
    bed.assert_reached(false);
    assert_eq!(agent.get("/livez").unwrap().status, 200);

    // With a reader again: whole lines, and one with the number of dropped lines.
    let mut lines = BufReader::new(reader)
        .lines()
        .map(Result::unwrap)
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|_| panic!("not JSON: {line}")));
    let missing = lines.find_map(|line| {
        let said = line["message"].as_str().unwrap().starts_with("log lines are missing here");
        said.then(|| line["lines"].as_u64().unwrap())
    });
    let dropped = agent.metric(DROPPED);
    assert!(missing.is_some_and(|missing| (1..=dropped).contains(&missing)), "{missing:?} of {dropped}");

    // The pipe is closed.
    drop(lines);
    change("a policy with a closed pipe", &|| bed.remove("deny.yaml"));
    bed.assert_reached(true);
    agent.wait("a count of what could not be written", || agent.metric(DROPPED) > dropped);
    assert!(agent.end(Signal::SIGTERM).success());
}

#[test]
fn the_end_does_not_wait_for_a_reader() {
    let bed = Bed::new("stderr-end");
    let (reader, stderr) = io::pipe().unwrap();
    // Full before the agent writes its first line.
    let mut filler = stderr.try_clone().unwrap();
    let filling =
        std::thread::spawn(move || std::io::Write::write_all(&mut filler, &vec![b'\n'; 1 << 20]).unwrap_err());
    let manifests = bed.manifests();
    let agent =
        Agent::start_with_stderr(bed.node(), LISTEN, &["--manifests", manifests.to_str().unwrap()], &bed.log(), stderr);
    agent.wait_ready();
    let start = Instant::now();
    assert!(agent.end(Signal::SIGTERM).success());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(reader);
    filling.join().unwrap();
}
