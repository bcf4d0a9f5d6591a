//! An agent as a process: its start, its log, its metrics, what it costs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palisade_lab::{Child, Namespace};

use crate::numbers::milliseconds;

/// The deadline of everything.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The pause between two looks at the log; the time that it reports is no more exact.
const PAUSE: Duration = Duration::from_micros(500);

const LISTEN: &str = "127.0.0.1:9440";

/// A running agent; it is killed when this value is dropped.
pub(crate) struct Agent {
    child: Child,
    namespace: Namespace,
    log: PathBuf,
    pub(crate) started: Instant,
}

impl Agent {
    /// Starts an agent for `node-0` with a new log.
    pub(crate) fn start(namespace: &Namespace, directory: &Path) -> Self {
        Self::of_cluster(namespace, directory, &directory.join("kubeconfig"))
    }

    /// The same with the API server that a kubeconfig names.
    pub(crate) fn of_cluster(namespace: &Namespace, directory: &Path, kubeconfig: &Path) -> Self {
        let program = std::env::var_os("PALISADE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_palisade").into());
        let mut command = namespace.command(program);
        command.args(["agent", "--node", "node-0", "--listen", LISTEN]).arg("--kubeconfig").arg(kubeconfig);
        Self::run(namespace, directory, command)
    }

    /// Starts this command, which is an agent, with a new log.
    pub(crate) fn run(namespace: &Namespace, directory: &Path, mut command: Command) -> Self {
        let log = directory.join("log");
        command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("a log"));
        let started = Instant::now();
        let child = Child::spawn(command).expect("the agent");
        Self { child, namespace: namespace.clone(), log, started }
    }

    /// Waits until the log has this word, and returns when.
    pub(crate) fn wait_for(&self, word: &str) -> Instant {
        self.wait(word, || self.log().contains(word))
    }

    /// Waits for a condition, and returns when it was met.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn() -> bool) -> Instant {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if condition() {
                return Instant::now();
            }
            std::thread::sleep(PAUSE);
        }
        panic!("no {what}; the agent's log:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The CPU time of all its threads so far, in milliseconds.
    pub(crate) fn cpu(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running agent");
        let times = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        milliseconds(Duration::from_nanos(times.sum()))
    }

    /// The CPU time so far of an agent that runs other programs, theirs included, in milliseconds: the kernel counts it
    /// in hundredths of a second (`/proc/PID/stat`, fields 14 to 17).
    pub(crate) fn cpu_of_all(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running agent");
        // The program's name, in brackets, may have spaces.
        let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        fields.skip(11).take(4).map(|ticks| ticks.parse::<f64>().expect("a count of ticks") * 10.0).sum()
    }

    /// MiB that it has now (`VmRSS`), or has had at most (`VmHWM`).
    pub(crate) fn memory(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running agent");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kibibytes: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a size");
        kibibytes / 1024.0
    }

    /// Its metrics, labels included.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let body = self.namespace.run(ask).expect("a namespace").expect("the agent's metrics");
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        body.lines().filter(|text| !text.starts_with('#')).filter_map(line).collect()
    }
}

fn ask() -> std::io::Result<String> {
    let address: SocketAddr = LISTEN.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
