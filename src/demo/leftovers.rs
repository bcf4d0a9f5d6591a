//! What an interrupted demo would leave behind: its agents and its directory.
//!
//! Namespaces have no name and end with the process; agents and the directory would not.

use std::path::{Path, PathBuf};
use std::process::{self, ChildStderr, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io, thread};

use palisade_lab::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output::Failure;

/// The exit status that a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The agents and the directory; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Leftovers {
    directory: PathBuf,
    agents: Arc<Mutex<Vec<Child>>>,
}

impl Leftovers {
    /// Makes the directory.
    pub(super) fn new() -> Result<Self, Failure> {
        let directory = std::env::temp_dir().join(format!("palisade-demo-{}", process::id()));
        fs::create_dir(&directory)
            .map_err(|error| Failure::caused(&format!("cannot make the directory {}", directory.display()), &error))?;
        Ok(Self { directory, agents: Arc::default() })
    }

    /// The directory of manifests.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts an agent; returns its stderr. An interrupt waits until the agent is recorded here.
    pub(super) fn start(&self, agent: Command) -> Result<Option<ChildStderr>, Failure> {
        let mut agents = self.lock();
        let mut agent = Child::spawn(agent)?;
        let stderr = agent.stderr.take();
        agents.push(agent);
        Ok(stderr)
    }

    /// Writes a file into the directory atomically, so that agents never see half of it. An interrupt waits.
    pub(super) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let _agents = self.lock();
        let hidden = self.directory.join(format!(".{file}"));
        fs::write(&hidden, text)?;
        fs::rename(hidden, self.directory.join(file))
    }

    /// Removes a file from the directory.
    pub(super) fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(file))
    }

    /// Kills the agents and removes the directory. Later calls have no effect.
    pub(super) fn clear(&self) {
        self.clear_and(|| ());
    }

    /// From now on, SIGINT, SIGTERM and SIGHUP clean up and then end the process.
    pub(super) fn clear_on_interrupt(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::caused("cannot wait for signals", &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).map_err(failed);
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?)
        };
        let leftovers = self.clone();
        let wait = move || {
            runtime.block_on(first(&mut interrupt, &mut terminate, &mut hangup));
            // Hold the lock to the end, so that the main thread does not report that its agents died.
            leftovers.clear_and(|| process::exit(INTERRUPTED));
        };
        thread::Builder::new().name("interrupt".into()).spawn(wait).map(drop).map_err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear_and(&self, then: impl FnOnce()) {
        let mut agents = self.lock();
        // Dropping an agent kills it and waits for its end.
        agents.clear();
        // The demo is over, and an error could only be printed.
        fs::remove_dir_all(&self.directory).ok();
        then();
    }
}

async fn first(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
