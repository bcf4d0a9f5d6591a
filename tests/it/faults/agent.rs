//! An agent in a node's namespace, whatever happens to its log.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::{Child, Node, Signal};

/// The HTTP address of agents, each in its node's namespace.
pub(crate) const LISTEN: &str = "127.0.0.1:9440";

/// The deadline of an answer of its HTTP server.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pause between two checks of a condition; the machine is for the agents.
const PAUSE: Duration = Duration::from_millis(3);

/// The settings of an agent.
#[derive(Default)]
pub(crate) struct Setup {
    /// The receiver of its log, if not a file.
    pub(crate) stderr: Option<OwnedFd>,
    /// Its soft and hard limits of open files.
    pub(crate) files: Option<(u32, u32)>,
}

/// A running agent; it is killed when this value is dropped, if not before.
pub(crate) struct Agent {
    child: Child,
    node: Node,
    log: PathBuf,
    started: Instant,
}

impl Agent {
    /// Starts an agent that appends to the log.
    pub(crate) fn start(node: &Node, kubeconfig: &Path, log: &Path, setup: Setup) -> Self {
        let program = std::env::var_os("PALISADE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_palisade").into());
        let mut command = match setup.files {
            Some((soft, hard)) => {
                let mut command = node.command("prlimit");
                command.arg(format!("--nofile={soft}:{hard}")).arg(program);
                command
            }
            None => node.command(program),
        };
        command.args(["agent", "--node", node.name(), "--listen", LISTEN, "--kubeconfig"]).arg(kubeconfig);
        let stderr = match setup.stderr {
            Some(other) => Stdio::from(other),
            None => Stdio::from(File::options().create(true).append(true).open(log).unwrap()),
        };
        command.env_remove("RUST_LOG").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = Child::spawn(command).unwrap();
        Self { child, node: node.clone(), log: log.to_owned(), started: Instant::now() }
    }

    /// The status and body of the answer to a GET; none if it does not arrive in time.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let ask = || {
            let address: SocketAddr = LISTEN.parse().unwrap();
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
        };
        self.node.run(ask).unwrap()
    }

    /// Whether it reports that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Whether it reports that it is alive.
    pub(crate) fn is_live(&self) -> bool {
        self.get("/livez").is_some_and(|(status, _)| status == 200)
    }

    /// The sum of all series of a metric whose labels contain these words; none if there is no such series.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let of_it = |line: &&str| {
            let (series, _) = line.rsplit_once(' ').unwrap_or_default();
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            series_name == name && series_labels.contains(labels)
        };
        let values: Vec<f64> =
            body.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Waits until it is ready.
    pub(crate) fn wait_ready(&self) {
        self.wait("readiness", Duration::from_secs(60), || self.is_ready());
    }

    /// Waits for a condition, and returns the time it took.
    pub(crate) fn wait(&self, what: &str, limit: Duration, condition: impl Fn() -> bool) -> Duration {
        within(limit, condition).unwrap_or_else(|| panic!("no {what} within {limit:?}; {}", self.words()))
    }

    /// Its readiness and log, for messages of failures.
    pub(crate) fn words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].iter().map(|line| line.chars().take(400).collect());
        let last: Vec<String> = last.collect();
        format!("ended: {:?}; readyz: {:?}; the log ends with:\n{}", self.ended(), self.get("/readyz"), last.join("\n"))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&self) -> Option<String> {
        self.child.try_wait().unwrap().map(|status| status.to_string())
    }

    /// The time of its start.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Memory in MiB that it has now (`VmRSS`), or has had at most (`VmHWM`).
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// The processor time that it has used: utime and stime of proc(5), in hundredths of a second.
    pub(crate) fn used(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        Duration::from_millis(10 * fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        self.child.signal(Signal::SIGKILL).unwrap();
        self.child.wait(PATIENCE).unwrap();
    }
}

/// The time until a condition held; none if that took too long.
pub(crate) fn within(limit: Duration, condition: impl Fn() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if condition() {
            return Some(start.elapsed());
        }
        if start.elapsed() >= limit {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
