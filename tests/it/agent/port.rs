//! The port of probes and metrics: in use by another program, or flooded.

use std::collections::VecDeque;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;

use palisade_lab::Flow;

use crate::agent::bed::{Bed, DENY, LISTEN};
use crate::common::running::{LIMIT, PAUSE};

#[test]
fn policies_are_enforced_while_the_port_is_taken_and_it_is_served_once_it_is_free() {
    let bed = Bed::new("port");
    bed.write("deny.yaml", DENY);
    let taken = bed.node().run(|| TcpListener::bind(LISTEN).unwrap()).unwrap();
    let agent = bed.agent();
    let (start, flow) = (Instant::now(), Flow::tcp(&bed.client, bed.web.addresses()[0], 80));
    while bed.lab.shoot(std::slice::from_ref(&flow)).unwrap() != [false] {
        assert!(start.elapsed() < LIMIT, "not enforced; the log:\n{}", agent.read_log());
        thread::sleep(PAUSE);
    }
    agent.wait("the log line", || {
        let errors = agent.events().into_iter().filter(|event| event["level"] == "ERROR");
        errors.filter(|event| event["message"].as_str().unwrap().starts_with("cannot listen")).count() == 1
    });
    drop(taken);
    agent.wait_ready();
    agent.wait("the log line", || agent.logged("serving probes and metrics") == 1);
}

#[test]
fn connections_leave_the_agent_its_descriptors_and_probes_their_answer() {
    let bed = Bed::new("descriptors");
    let agent = bed.agent();
    agent.wait_ready();

    // The soft limit that many container runtimes set does not apply.
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.id())).unwrap();
    let files: Vec<_> =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap().split_whitespace().collect();
    let [soft, hard] = [files[0], files[1]].map(|number| number.parse::<u64>().unwrap());
    assert_eq!(soft, hard.min(65_536), "{files:?}");

    // Leaves a few descriptors: fewer than the maximum number of connections.
    let open = fs::read_dir(format!("/proc/{}/fd", agent.id())).unwrap().count();
    let limit = format!("--nofile={}:", open + 10);
    assert!(Command::new("prlimit").args(["--pid", &agent.id().to_string(), &limit]).status().unwrap().success());
    let mut silent = VecDeque::new();
    for round in 0..300 {
        silent.push_back(bed.node().run(|| TcpStream::connect(LISTEN).unwrap()).unwrap());
        if round % 50 == 0 {
            assert_eq!(agent.get("/livez").unwrap().status, 200);
        }
    }
    assert_eq!(agent.missing(), None);
    drop(silent);
    assert!(
        Command::new("prlimit").args(["--pid", &agent.id().to_string(), "--nofile=1024:"]).status().unwrap().success()
    );
    agent.after("policy shop/deny-all added", || bed.write("deny.yaml", DENY));
    bed.assert_reached(false);
}
