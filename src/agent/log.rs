//! The log: lines wait in a bounded queue for a thread that writes them to stderr.
//!
//! The reader of stderr must not decide whether policies are enforced. A stalled reader, a full disk or a closed pipe
//! blocks only the writer thread: lines that do not fit into the queue are dropped and counted, and once there is room
//! again, a line reports how many are missing.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// How many bytes may wait.
const QUEUE_BYTES: usize = 1 << 20;
const QUEUE_LINES: usize = 8192;

/// How long the exit waits for lines to be written.
pub(crate) const FLUSH_TIME: Duration = Duration::from_secs(1);

/// How long the writer waits after a failed write that may work later.
const PAUSE: Duration = Duration::from_millis(100);

/// The log's queue. Cheap to clone; all clones are the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// A line was added, or the queue is empty and written.
    changed: Condvar,
    dropped: Counter<u64, AtomicU64>,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// A line was taken from the queue and is not written yet.
    writing: bool,
    /// The writer thread. It reports missing lines, one line at a time, and that line always fits.
    writer: Option<ThreadId>,
}

/// Starts the program's log: its format, its level from `RUST_LOG`, and the panic hook.
pub(crate) fn start(format: LogFormat) -> io::Result<Log> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A separate descriptor: a blocked write does not hold the standard library's lock on stderr.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let log = Log::new();
    log.write_to(stderr, report_dropped)?;
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(log.clone());
    // The formatter prints its own errors, and printing to a closed stderr panics.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    let of_panics = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let said = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(thread = thread.name(), place, "panicked: {said}");
        of_panics.flush(FLUSH_TIME);
    }));
    Ok(log)
}

fn report_dropped(lines: u64) {
    tracing::warn!(lines, "log lines are missing here: they could not be written fast enough");
}

impl Log {
    fn new() -> Self {
        let shared = Shared { queue: Mutex::default(), changed: Condvar::new(), dropped: Counter::default() };
        Self(Arc::new(shared))
    }

    /// How many lines have been dropped, as a metric.
    pub(crate) fn dropped(&self) -> Counter<u64, AtomicU64> {
        self.0.dropped.clone()
    }

    /// Adds a line, which ends with a line feed, unless it does not fit. Never waits for the writer.
    pub(crate) fn line(&self, line: &[u8]) {
        let mut queue = self.queue();
        let fits = queue.lines.len() < QUEUE_LINES && queue.bytes.saturating_add(line.len()) <= QUEUE_BYTES;
        if fits || queue.writer == Some(thread::current().id()) {
            queue.bytes = queue.bytes.saturating_add(line.len());
            queue.lines.push_back(line.into());
            drop(queue);
            self.0.changed.notify_all();
        } else {
            self.0.dropped.inc();
        }
    }

    /// Waits until everything is written, for at most `limit`. Returns whether everything is.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut queue = self.queue();
        while queue.writing || !queue.lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Starts the writer thread. It calls `report_dropped` when lines were lost and one could be written again.
    fn write_to(
        &self,
        to: impl Write + Send + 'static,
        report_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<()> {
        let log = self.clone();
        let body = move || log.write_loop(to, report_dropped);
        thread::Builder::new().name("log".to_owned()).spawn(body).map(drop)
    }

    fn write_loop(&self, mut to: impl Write, report_dropped: impl Fn(u64)) {
        let mut said = 0;
        let mut torn = false;
        self.queue().writer = Some(thread::current().id());
        loop {
            let line = self.next();
            let written = write_line(&mut to, &line, &mut torn);
            if !written {
                self.0.dropped.inc();
            }
            let lost = self.0.dropped.get();
            if written && lost > said {
                report_dropped(lost.saturating_sub(said));
                said = lost;
            }
            let mut queue = self.queue();
            queue.writing = false;
            drop(queue);
            self.0.changed.notify_all();
        }
    }

    /// Waits for the next line and takes it.
    fn next(&self) -> Box<[u8]> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes = queue.bytes.saturating_sub(line.len());
                queue.writing = true;
                return line;
            }
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The lock is held only briefly, by code that does not panic.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a whole line and returns whether that worked. After a partial line (`torn`) the next one begins with a line
/// feed.
fn write_line(to: &mut impl Write, line: &[u8], torn: &mut bool) -> bool {
    if *torn && !matches!(to.write(b"\n"), Ok(1)) {
        return false;
    }
    let mut rest = line;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => break,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process made the pipe non-blocking, and it is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    *torn = !rest.is_empty() && rest.len() < line.len();
    rest.is_empty()
}

/// The writer of one line, which the formatter writes in one piece.
#[derive(Debug)]
pub(crate) struct Line<'log>(&'log Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'log> MakeWriter<'log> for Log {
    type Writer = Line<'log>;

    fn make_writer(&'log self) -> Line<'log> {
        Line(self)
    }
}
