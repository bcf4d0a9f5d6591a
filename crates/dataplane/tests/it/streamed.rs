//! Deleting flows takes constant memory. The test runs in its own process because it reads the process's peak.
//! `PALISADE_ENTRIES` sets the number of entries.
//!
//! Seen to fail when the dump was collected before it was searched.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use palisade_dataplane::conntrack::Conntrack;

const ENTRIES: u32 = 40_000;
/// In KiB. An entry of a dump has some 170 bytes; all have 6.5 MiB.
const GROWTH: u64 = 2048;
/// One entry in this many belongs to one of the servers.
const SERVERS: u32 = 250;

/// Makes the entries, in a separate process.
fn fill(entries: u32) {
    let mut child = Command::new("conntrack")
        .args(["-R", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("conntrack is installed");
    let mut input = child.stdin.take().unwrap();
    let mut line = String::new();
    for number in 0..entries {
        let [_, a, b, c] = number.to_be_bytes();
        let port = 1024 + number % 60_000;
        line.clear();
        writeln!(
            line,
            "-A -t 1000 -s 10.{a}.{b}.{c} -d 10.96.0.1 -r 10.200.{}.2 -q 10.{a}.{b}.{c} -p udp --sport {port} --dport 80 \
             --reply-port-src 80 --reply-port-dst {port}",
            number % SERVERS
        )
        .unwrap();
        input.write_all(line.as_bytes()).unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// This process's peak memory, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_flows() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "streamed::alone", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
    println!("{said}");
}

#[test]
#[ignore = "memory_does_not_grow_with_the_flows runs it"]
fn alone() {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root, for network namespaces");
    let entries = std::env::var("PALISADE_ENTRIES").map_or(ENTRIES, |text| text.parse().unwrap());
    fill(entries);
    let mut conntrack = Conntrack::open().unwrap();
    assert_eq!(conntrack.entries().unwrap(), entries);
    let nobody: BTreeSet<IpAddr> = (0..200).map(|last| IpAddr::from([10, 201, 0, last])).collect();
    let before = peak();
    let start = Instant::now();
    let forgotten = conntrack.forget(&nobody).unwrap();
    let took = start.elapsed();
    assert_eq!((forgotten.flows, forgotten.scanned), (0, usize::try_from(entries).unwrap()));
    let forgotten = conntrack.forget(&[IpAddr::from([10, 200, 7, 2])].into()).unwrap();
    let grown = peak() - before;
    println!("total {entries} entries: looked through in {took:?}, {grown} KiB more than before");
    assert_eq!((forgotten.flows, forgotten.unfinished.len()), ((entries / SERVERS) as usize, 0));
    assert!(grown <= GROWTH, "{grown} KiB");
}
