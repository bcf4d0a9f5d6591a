//! Programs that the lab starts, and its prerequisites.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// The programs every lab uses, with their Debian packages.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("nft", "nftables")];

/// The capabilities every lab uses, by bit number (`linux/capability.h`).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Where system programs are besides `$PATH`: Debian's shells leave these out for ordinary logins.
const SYSTEM_PATHS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Checks whether this process can build a lab, and says what is missing.
///
/// # Errors
/// [`Error::Privilege`] or [`Error::Tool`].
pub fn check_requirements() -> Result<()> {
    let missing = missing_capabilities()?;
    if !missing.is_empty() {
        return Err(Error::Privilege { missing: missing.join(", ") });
    }
    PROGRAMS.iter().try_for_each(|&(tool, package)| require(tool, package))
}

/// Fails with the name of the Debian package unless the program is there.
pub(crate) fn require(tool: &'static str, package: &'static str) -> Result<()> {
    find_program(tool).map(|_| ()).ok_or(Error::Tool { tool, package })
}

fn missing_capabilities() -> Result<Vec<&'static str>> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|source| Error::Io { what: "read /proc/self/status", source })?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    Ok(CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|&(_, name)| name).collect())
}

/// The full path of a program, looked for in `$PATH` and in the system directories.
pub(crate) fn find_program(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return program.exists().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_PATHS.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A running program that is killed when this value is dropped, and by the kernel when this process dies (if the
/// command came from [`crate::Namespace::command`]).
///
/// The kernel's parent-death signal follows the *thread* that started the child, so a dedicated thread starts it and
/// stays until this value is dropped.
#[derive(Debug)]
pub struct Child {
    id: u32,
    process: Arc<Mutex<std::process::Child>>,
    /// Standard input, when the command asked for a pipe.
    pub stdin: Option<ChildStdin>,
    /// Standard output, when the command asked for a pipe.
    pub stdout: Option<ChildStdout>,
    /// Standard error, when the command asked for a pipe.
    pub stderr: Option<ChildStderr>,
    release: Option<mpsc::Sender<()>>,
    starter: Option<JoinHandle<()>>,
}

impl Child {
    /// Starts the command.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let (report, started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let starter = thread::Builder::new()
            .name("lab-child".into())
            .spawn(move || {
                if report.send(command.spawn()).is_ok() {
                    // Ends only when the sender is dropped.
                    released.recv().unwrap_or(());
                }
            })
            .map_err(|source| Error::Io { what: "start a thread", source })?;
        let started = started.recv().unwrap_or_else(|mpsc::RecvError| Err(io::ErrorKind::BrokenPipe.into()));
        let mut child = started.map_err(|source| Error::Io { what: "start a program", source })?;
        Ok(Self {
            id: child.id(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            process: Arc::new(Mutex::new(child)),
            release: Some(release),
            starter: Some(starter),
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The exit status, if it has ended.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel cannot say.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().map_err(|source| Error::Io { what: "wait for a program", source })
    }

    /// Waits for the end, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Deadline`] when it is still running then.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() >= limit {
                return Err(Error::Deadline { what: format!("the end of process {}", self.id), waited: limit });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal, unless the program has ended.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // Unreaped under the lock, so another process cannot have its id.
        if matches!(child.try_wait(), Ok(None)) {
            let id = i32::try_from(self.id).unwrap_or(i32::MAX);
            match kill(Pid::from_raw(id), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::Io { what: "signal a program", source: errno.into() }),
            }
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        {
            let mut child = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have ended already; either way it is reaped here.
            child.kill().and_then(|()| child.wait()).ok();
        }
        drop(self.release.take());
        if let Some(starter) = self.starter.take() {
            starter.join().unwrap_or(());
        }
    }
}
