//! A running agent, its log and its answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{ChildStderr, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::Node;
use serde_json::Value;

use super::leftovers::Leftovers;
use crate::output::{self, Failure};

/// The address of an agent's server; every node has its own loopback.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9440);
/// The longest wait for an agent.
const LIMIT: Duration = Duration::from_secs(20);
/// How long to wait for a log line before asking the agent again.
const ASK: Duration = Duration::from_millis(5);
/// How many lines of the log a failure quotes.
const QUOTED: usize = 8;

/// An agent on a node.
#[derive(Debug)]
pub(super) struct Agent {
    node: Node,
    lines: Receiver<Line>,
    log: Vec<Line>,
    /// How many lines of the log were already examined.
    seen: usize,
}

/// A line of the log, and when it arrived.
#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    text: String,
    fields: Value,
}

/// A commit, as the agent logs it.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    /// The node.
    pub(super) node: String,
    /// When the line arrived, which is after the end of the commit.
    pub(super) at: Instant,
    /// How many objects, elements and rules were written.
    pub(super) operations: Option<u64>,
    /// How long rendering and writing took.
    pub(super) took: Duration,
    /// The time from the change of the manifest to the end of the commit.
    pub(super) delay: Duration,
}

impl Agent {
    /// Starts this program as an agent in the node's namespace.
    pub(super) fn start(node: &Node, leftovers: &Leftovers) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::caused("cannot find this program", &error))?;
        let mut command = node.command(program);
        command.args(["agent", "--node", node.name(), "--log-format", "json", "--listen", &LISTEN.to_string()]);
        command.arg("--manifests").arg(leftovers.directory());
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let stderr = leftovers.start(command)?;
        let lines = follow(stderr.ok_or_else(|| Failure::new("an agent was started without its log"))?)?;
        Ok(Self { node: node.clone(), lines, log: Vec::new(), seen: 0 })
    }

    /// Waits until it is ready.
    pub(super) fn await_ready(&mut self) -> Result<(), Failure> {
        self.wait("be ready", |agent| agent.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
    }

    /// Waits until it enforces this many policies, and returns its commits since the last call.
    pub(super) fn await_policies(&mut self, count: usize, changed: Instant) -> Result<Vec<Commit>, Failure> {
        self.wait(&format!("enforce {count} policies"), |agent| {
            let Ok(metrics) = agent.get("/metrics") else { return false };
            // The gauge follows the commit, and so does the log line, which may still be on its way.
            metric(&metrics, "palisade_policies") == count as u64
                && metric(&metrics, "palisade_commits_total")
                    <= agent.log.iter().filter(|line| line.is_commit()).count() as u64
        })?;
        let new = self.log.get(self.seen..).unwrap_or_default();
        let commits = new.iter().filter(|line| line.is_commit()).map(|line| line.commit(&self.node, changed)).collect();
        self.seen = self.log.len();
        Ok(commits)
    }

    /// Waits for a condition that is checked with every log line, and every few milliseconds.
    fn wait(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let start = Instant::now();
        while !condition(self) {
            match self.lines.recv_timeout(ASK) {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure("ended")),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > LIMIT => {
                    return Err(self.failure(&format!("did not {what} within {} s", LIMIT.as_secs())));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.log.extend(self.lines.try_iter());
        }
        Ok(())
    }

    fn failure(&self, what: &str) -> Failure {
        let end: Vec<_> = self.log.iter().rev().take(QUOTED).map(|line| format!("  {}\n", line.text)).collect();
        let end: String = end.into_iter().rev().collect();
        Failure::new(format!("the agent of {} {what}; the end of its log:\n{end}", self.node.name()))
    }

    /// Asks the agent, from within its node.
    fn get(&self, path: &str) -> Result<String, Failure> {
        let asked = self.node.run(|| {
            let mut stream = TcpStream::connect_timeout(&LISTEN, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {LISTEN}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        asked.map_err(|error: std::io::Error| Failure::new(output::chain(&error)))
    }
}

impl Line {
    fn text_of<'a>(&'a self, field: &str) -> &'a str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn number_of(&self, field: &str) -> Option<u64> {
        self.fields.get(field).and_then(Value::as_u64)
    }

    fn is_commit(&self) -> bool {
        self.text_of("message").starts_with("committed")
    }

    fn commit(&self, node: &Node, changed: Instant) -> Commit {
        Commit {
            node: node.name().to_owned(),
            at: self.at,
            operations: self.number_of("operations"),
            took: Duration::from_micros(self.number_of("elapsed_us").unwrap_or(0)),
            delay: self.at.saturating_duration_since(changed),
        }
    }
}

/// Reads the log on a separate thread, until the agent ends.
fn follow(log: ChildStderr) -> Result<Receiver<Line>, Failure> {
    let (to, lines) = mpsc::channel();
    let read = move || {
        for text in BufReader::new(log).lines().map_while(Result::ok) {
            let line = Line { at: Instant::now(), fields: serde_json::from_str(&text).unwrap_or_default(), text };
            if to.send(line).is_err() {
                break;
            }
        }
    };
    let thread = thread::Builder::new().name("agent-log".into()).spawn(read);
    thread.map(|_| lines).map_err(|error| Failure::caused("cannot start a thread", &error))
}

/// The sum of a metric over its labels.
fn metric(text: &str, name: &str) -> u64 {
    let of_name = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    text.lines().filter(|line| of_name(line)).filter_map(value).sum()
}
