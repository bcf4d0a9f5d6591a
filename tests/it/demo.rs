//! `palisade demo`, as people run it.
//!
//! Seen to fail when: the directory is not removed; signals are caught without cleanup; an interrupted demo exits with
//! 0; the policy of step 3 selects another pod; it is not deleted during the streams (two measurements differ, exit 1);
//! the expectation uses egress alone (180 differ, exit 1); colours are on without a terminal; a line is over 100
//! columns; README.md quoted another comment of the table.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::common::listing;

/// Longer than any demo takes on a loaded machine; the demo itself must take less than a minute.
const LIMIT: Duration = Duration::from_mins(1);

/// A handwritten matrix: for each client, whether it reaches frontend, backend, db, monitor and the backend's Service.
/// `+` reached over TCP and UDP, `t` over TCP only, `-` not at all, `.` itself.
type Expected = [(&'static str, &'static str); 5];

const OPEN: Expected = [
    ("shop/frontend", ". + + + +"),
    ("shop/backend", "+ . + + ."),
    ("shop/db", "+ + . + +"),
    ("ops/monitor", "+ + + . +"),
    ("own node", "+ + + + +"),
];
const DENIED: Expected = [
    ("shop/frontend", ". - - - -"),
    ("shop/backend", "- . - - ."),
    ("shop/db", "- - . - -"),
    ("ops/monitor", "- - - . -"),
    ("own node", "+ + + + +"),
];
const ONE_PEER: Expected = [
    ("shop/frontend", ". + - - +"),
    ("shop/backend", "- . - - ."),
    ("shop/db", "- - . - -"),
    ("ops/monitor", "- - - . -"),
    ("own node", "+ + + + +"),
];
const MORE: Expected = [
    ("shop/frontend", ". + - - +"),
    ("shop/backend", "- . t - ."),
    ("shop/db", "- - . - -"),
    ("ops/monitor", "+ + - . +"),
    ("own node", "+ + + + +"),
];

#[test]
fn the_demo_shows_what_policies_mean_and_leaves_nothing_behind() {
    let home = Home::new("whole");
    let started = Instant::now();
    let output = home.command().output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(err, "");
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());

    let matrices = matrices(&out);
    assert_eq!(matrices.len(), 5, "{out}");
    for (step, (matrix, expected)) in matrices.iter().zip([OPEN, DENIED, ONE_PEER, MORE, MORE]).enumerate() {
        for ((opener, cells), (row, says)) in matrix.iter().zip(expected) {
            assert_eq!(opener, row, "step {}: {out}", step + 1);
            let says: Vec<&str> = says.split(' ').map(glyph).collect();
            let twice: Vec<&str> = says.iter().chain(&says).copied().collect();
            assert_eq!(cells, &twice, "step {}, from {opener}: {out}", step + 1);
        }
    }
    assert_eq!(out.matches("80 connections, TCP and UDP, IPv4 and IPv6: all as the policies say").count(), 5, "{out}");

    assert_eq!(out.matches("; 0 packets reached the backend since the commit").count(), 2, "{out}");
    assert_eq!(out.matches("alive after").count(), 2, "{out}");
    assert!(!out.contains("! "), "{out}");
    assert!(out.contains("   table inet palisade {"), "{out}");
    assert!(out.contains("comment \"shop/allow-frontend ingress[0]\""), "{out}");
    let (_, listed) = out.split_once("   table inet palisade {").unwrap();
    let stale = listing::difference("README.md", &format!("table inet palisade {{{listed}"), str::is_empty);
    assert!(stale.is_none(), "README.md quotes (-) differ from the demo's listing (+): {}", stale.unwrap_or_default());
    assert!(!out.contains('\x1b'), "colours, although stdout is not a terminal");
    // The listing is nft's; comments make some of its lines longer.
    let wide = |line: &&str| line.chars().count() > 100 && !line.contains("comment \"");
    assert_eq!(out.lines().find(wide), None, "wider than 100 columns");
    home.assert_empty();
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for (signal, line) in [("INT", "2  A default-deny"), ("TERM", "5  Running connections"), ("HUP", "Two nodes")] {
        let home = Home::new(signal);
        let mut demo = home.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let read = read_until(&mut demo, line);
        let id = demo.id();
        let inside = descendants(id);
        send(id, signal);
        let (status, err) = end(demo);
        assert_eq!(status, Some(130), "{signal}: {read}\n{err}");
        assert_eq!(err, "", "{signal}");
        assert!(signal == "HUP" || inside.len() >= 2, "{signal}: no agents found: {inside:?}");
        await_that(&format!("the end of {inside:?} after {signal}"), || {
            inside.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists())
        });
        home.assert_empty();
    }
}

#[test]
fn without_privileges_it_says_what_is_missing() {
    let home = Home::new("unprivileged");
    let program = home.directory.join("palisade");
    fs::copy(env!("CARGO_BIN_EXE_palisade"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    let output = command.arg(&program).arg("demo").env("TMPDIR", &home.directory).output().unwrap();
    fs::remove_file(&program).unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    assert!(err.contains("CAP_NET_ADMIN") && err.contains("as root"), "{err}");
    assert_eq!(out, "");
    home.assert_empty();
}

/// A directory for the demo's temporary files, which must be empty at the end.
struct Home {
    directory: PathBuf,
}

impl Home {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("palisade-test-demo-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        command.arg("demo").env("TMPDIR", &self.directory).stdin(Stdio::null());
        command
    }

    /// Nothing in the directory, and no process with its name in the arguments (the agents have it in `--manifests`).
    fn assert_empty(&self) {
        let left: Vec<_> = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        let directory = self.directory.to_str().unwrap();
        await_that("the end of every agent and of every namespace", || {
            let mut lines =
                processes().into_iter().map(|id| fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default());
            !lines.any(|line| String::from_utf8_lossy(&line).contains(directory))
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A failed test has more important output than a second failure.
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// The rows of each matrix: the client, then the cells of both halves.
fn matrices(out: &str) -> Vec<Vec<(String, Vec<&str>)>> {
    let mut found = Vec::new();
    let mut lines = out.lines();
    while lines.any(|line| line.trim_start().starts_with("from      to")) {
        let rows = lines.by_ref().take(5).map(|line| {
            let (opener, cells) = line.split_at(18);
            (opener.trim().to_owned(), cells.split_whitespace().collect())
        });
        found.push(rows.collect());
    }
    found
}

fn glyph(by_hand: &str) -> &'static str {
    match by_hand {
        "+" => "✓",
        "-" => "✗",
        "t" => "TCP",
        _ => "·",
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Reads stdout up to a line that contains `mark`; a thread continues to read it, so that the demo never waits for us.
fn read_until(demo: &mut Child, mark: &str) -> String {
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut read = String::new();
    let found = lines.by_ref().map_while(Result::ok).any(|line| {
        read.push_str(&line);
        read.push('\n');
        line.contains(mark)
    });
    assert!(found, "no line with {mark:?}: {read}");
    thread::spawn(move || lines.map_while(Result::ok).count());
    read
}

/// Waits for the end; returns the exit status and stderr.
fn end(mut demo: Child) -> (Option<i32>, String) {
    let mut err = String::new();
    await_that("the end of the demo", || demo.try_wait().unwrap().is_some());
    demo.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (demo.wait().unwrap().code(), err)
}

fn send(id: u32, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &id.to_string()]).status().unwrap();
    assert!(status.success());
}

fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn processes() -> Vec<u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The descendants of a process.
fn descendants(id: u32) -> BTreeSet<u32> {
    let parents: Vec<_> = processes().into_iter().filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = BTreeSet::from([id]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(id, parent)| found.contains(parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            found.remove(&id);
            return found;
        }
        found.extend(more);
    }
}

fn parent(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
