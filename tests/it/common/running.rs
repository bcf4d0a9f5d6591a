//! A running agent with its probes, metrics and log.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use palisade_lab::{Child, Node, Signal};
use serde_json::Value;

/// Time limit for anything. An agent that lost its API server retries within 30 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The interval at which a condition is checked; it leaves the machine to the agents.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// An agent in a node's namespace. It is killed when this value is dropped, if not before.
pub(crate) struct Agent {
    child: Child,
    node: Node,
    listen: &'static str,
    log: PathBuf,
}

/// An answer over HTTP.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Agent {
    /// Starts an agent that listens there, with arguments such as `["--manifests", DIR]`. It appends to the log.
    pub(crate) fn start(node: &Node, listen: &'static str, arguments: &[&str], log: &Path) -> Self {
        let file = fs::File::options().create(true).append(true).open(log).unwrap();
        Self::start_with_stderr(node, listen, arguments, log, file)
    }

    /// The same with another stderr than the log's file.
    pub(crate) fn start_with_stderr(
        node: &Node,
        listen: &'static str,
        arguments: &[&str],
        log: &Path,
        stderr: impl Into<Stdio>,
    ) -> Self {
        Self::start_program(env!("CARGO_BIN_EXE_palisade"), node, listen, arguments, log, stderr)
    }

    /// The same with the program of another release.
    pub(crate) fn start_program(
        program: &str,
        node: &Node,
        listen: &'static str,
        arguments: &[&str],
        log: &Path,
        stderr: impl Into<Stdio>,
    ) -> Self {
        let mut command = node.command(program);
        command.args(["agent", "--node", node.name(), "--listen", listen, "--log-format", "json"]).args(arguments);
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self { child: Child::spawn(command).unwrap(), node: node.clone(), listen, log: log.to_owned() }
    }

    /// The response to a GET; `None` while the port is closed.
    pub(crate) fn get(&self, path: &str) -> Option<Answer> {
        let ask = || {
            let mut stream = TcpStream::connect(self.listen).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
            Some(Answer { status, body: body.to_owned() })
        };
        self.node.run(ask).unwrap()
    }

    /// The reason why it is not ready; `None` if it is.
    pub(crate) fn missing(&self) -> Option<String> {
        let answer = self.get("/readyz").unwrap_or_else(|| panic!("no answer; the log:\n{}", self.read_log()));
        match answer.status {
            200 => None,
            503 => Some(answer.body),
            other => panic!("/readyz answers with {other}: {}", answer.body),
        }
    }

    /// Waits until it is ready.
    pub(crate) fn wait_ready(&self) {
        self.wait("readiness", || self.get("/readyz").is_some_and(|answer| answer.status == 200));
    }

    /// Waits until it is not ready for a reason that contains these words.
    pub(crate) fn wait_missing(&self, reason: &str) -> String {
        let said = || self.get("/readyz").filter(|answer| answer.status == 503 && answer.body.contains(reason));
        self.wait(&format!("unreadiness for \"{reason}\""), || said().is_some());
        said().unwrap().body
    }

    /// The value of a series that must exist.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        self.find_metric(series).unwrap_or_else(|| panic!("there is no series {series}"))
    }

    /// The value of a series; `None` if there is none.
    pub(crate) fn find_metric(&self, series: &str) -> Option<u64> {
        let text = self.find_text(series)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{series} is not a whole number: {text}")))
    }

    /// The same as printed.
    pub(crate) fn find_text(&self, series: &str) -> Option<String> {
        let answer = self.get("/metrics").expect("the agent listens");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let value = answer.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(str::to_owned)
    }

    /// Whether it has nothing left to do: no deletion and no IP is blocked, and the loop has not been busy meanwhile.
    pub(crate) fn is_at_rest(&self) -> bool {
        let busy = || self.find_text("palisade_loop_busy_seconds_total").expect("the metric exists");
        let before = busy();
        let left = self.metric("palisade_policy_deletions_held") + self.metric("palisade_addresses_held");
        left == 0 && busy() == before
    }

    /// The number of its successful commits for this reason. The first one creates the series.
    pub(crate) fn commits(&self, kind: &str) -> u64 {
        self.find_metric(&format!("palisade_commits_total{{kind=\"{kind}\",result=\"success\"}}")).unwrap_or(0)
    }

    /// The number of failures to read objects, of any resource and reason. The first one creates the series.
    pub(crate) fn watch_errors(&self) -> u64 {
        let metrics = self.get("/metrics").expect("the agent listens").body;
        let errors = metrics.lines().filter(|line| line.starts_with("palisade_watch_errors_total{"));
        errors.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Makes a change and waits until the log has a commit for this cause, and the metrics say that it is done. Returns
    /// the log's line.
    pub(crate) fn after(&self, cause: &str, change: impl FnOnce()) -> Value {
        let enforced = || self.metric("palisade_policy_implementation_delay_seconds_count");
        let (before, seen) = (enforced(), self.events().len());
        change();
        let line = || {
            let events = self.events().into_iter().skip(seen);
            let mut commits = events.filter(|event| event["message"] == "committed");
            commits.find(|event| event["cause"].as_str().unwrap().contains(cause))
        };
        self.wait(&format!("commit because of \"{cause}\""), || enforced() > before && line().is_some());
        line().unwrap()
    }

    /// Waits until the condition holds.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LIMIT, "no {what} within {LIMIT:?}; the log:\n{}", self.read_log());
            assert!(self.child.try_wait().unwrap().is_none(), "the agent has ended; the log:\n{}", self.read_log());
            thread::sleep(PAUSE);
        }
    }

    /// The log of all agents that wrote to this file.
    pub(crate) fn read_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// The log's lines, as [`events`].
    pub(crate) fn events(&self) -> Vec<Value> {
        events(&self.log)
    }

    /// The number of lines of the log with this message.
    pub(crate) fn logged(&self, message: &str) -> usize {
        logged(&self.log, message)
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processor time it has used, in ticks (a hundredth of a second each): utime and stime of proc(5).
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, in parentheses, is the second field and may contain anything; utime is the 14th.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// How often its threads gave up the CPU to wait for something.
    fn wakes(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
        let waits = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            line.trim().parse::<u64>().unwrap()
        };
        status.map(waits).sum()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(self, signal: Signal) -> ExitStatus {
        self.child.signal(signal).unwrap();
        self.child.wait(LIMIT).unwrap()
    }
}

/// Waits until a condition holds.
pub(crate) fn wait(limit: Duration, what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "no {what} within {limit:?}");
        thread::sleep(PAUSE);
    }
}

/// The lines of a log in JSON, without an incomplete last one.
pub(crate) fn events(log: &Path) -> Vec<Value> {
    let log = fs::read_to_string(log).unwrap();
    let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
}

/// The number of lines of a log with this message.
pub(crate) fn logged(log: &Path, message: &str) -> usize {
    events(log).iter().filter(|event| event["message"] == message).count()
}

/// Over 12 s, in which it looks at the node and the table at least once, an agent with nothing to do wakes at most six
/// times a second, and uses at most 2 % of a CPU: on a busy host a wake-up alone can take a millisecond. The time is what is
/// measured over, not a wait for something to settle.
pub(crate) fn assert_idle(agent: &Agent) {
    const WINDOW: Duration = Duration::from_secs(12);
    let (wakes, ticks, start) = (agent.wakes(), agent.ticks(), Instant::now());
    while let Some(left) = WINDOW.checked_sub(start.elapsed()) {
        thread::park_timeout(left);
    }
    let (wakes, ticks) = (agent.wakes() - wakes, agent.ticks() - ticks);
    assert!(wakes <= 72 && ticks <= 24, "{wakes} wake-ups and {ticks} hundredths of a second in {:?}", start.elapsed());
}
