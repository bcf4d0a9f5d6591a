//! Anonymous network namespaces, held by a file descriptor of this process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::panic;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns, unshare};

use crate::enter;
use crate::error::{Error, Result};
use crate::process::find_program;

/// A network namespace that exists as long as this value, a clone of it or a socket in it does.
///
/// It has no name in the file system. The kernel removes it when the process ends, however that happens.
#[derive(Clone, Debug)]
pub struct Namespace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Unique in this process, for as long as it lives.
    id: u64,
    name: String,
    /// Close-on-exec, as all files of the standard library are.
    fd: Arc<File>,
    addresses: Mutex<Vec<IpAddr>>,
}

impl Namespace {
    /// Makes a new namespace with the loopback device down and no addresses. The name is for messages only.
    ///
    /// # Errors
    /// [`Error::Namespace`] without CAP_SYS_ADMIN or when the kernel's limit of namespaces is reached.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let created = thread::scope(|scope| {
            // Unsharing moves only the calling thread; the thread ends, the namespace stays.
            let maker = thread::Builder::new().name("lab-netns".into()).spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            })?;
            maker.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        });
        Self::held_by(created, "create", name)
    }

    /// Holds a namespace made elsewhere, by its path: `/proc/PID/ns/net`, `/run/netns/NAME`. The lab does not know its
    /// addresses. The name is for messages only.
    ///
    /// # Errors
    /// [`Error::Namespace`] when there is none.
    pub fn open(name: impl Into<String>, path: impl AsRef<Path>) -> Result<Self> {
        Self::held_by(File::open(path), "open", name.into())
    }

    fn held_by(fd: io::Result<File>, stage: &'static str, name: String) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match fd {
            Ok(fd) => {
                let (id, fd) = (NEXT.fetch_add(1, Ordering::Relaxed), Arc::new(fd));
                Ok(Self { inner: Arc::new(Inner { id, name, fd, addresses: Mutex::default() }) })
            }
            Err(source) => Err(Error::Namespace { stage, namespace: name, source }),
        }
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs a closure on a thread inside the namespace and returns its value. Sockets made in the closure belong to the
    /// namespace for good and may be used from any thread. A panic in the closure is passed on.
    ///
    /// # Errors
    /// [`Error::Namespace`] when the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = thread::scope(|scope| {
            let inside = thread::Builder::new().name("lab-run".into()).spawn_scoped(scope, || {
                setns(&self.inner.fd, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
            inside.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        });
        outcome.map_err(|source| self.failed("enter", source))
    }

    /// Starts a long-lived thread inside the namespace. The caller must end it: the thread keeps the namespace alive.
    ///
    /// # Errors
    /// [`Error::Namespace`] when the thread cannot be started or cannot enter.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<Option<T>>> {
        let (entered, has_entered) = mpsc::channel();
        let namespace = self.clone();
        let handle = thread::Builder::new()
            .name("lab-thread".into())
            .spawn(move || {
                let result = setns(&namespace.inner.fd, CloneFlags::CLONE_NEWNET);
                let inside = result.is_ok();
                let reported = entered.send(result.map_err(io::Error::from)).is_ok();
                (inside && reported).then(work)
            })
            .map_err(|source| self.failed("spawn a thread in", source))?;
        match has_entered.recv() {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(source)) => Err(self.failed("enter", source)),
            Err(mpsc::RecvError) => Err(self.failed("enter", io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// A command that will run `program` inside the namespace and be killed by the kernel when the thread that started
    /// it ends. Use it as it is for short runs (`output()`), and through [`crate::Child::spawn`] for long ones.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let path = find_program(program).unwrap_or_else(|| program.into());
        enter::command(path, Arc::clone(&self.inner.fd))
    }

    /// Runs a program inside the namespace to its end, giving it `input`, and returns its standard output.
    ///
    /// # Errors
    /// [`Error::Spawn`], or [`Error::Command`] with what it wrote to standard error.
    pub fn output(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let ran = self.run(|| {
            let path = find_program(program).unwrap_or_else(|| program.into());
            let mut child = Command::new(path)
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let stdin = child.stdin.take();
            // Written from a second thread, so that a program that answers before it has read everything cannot block
            // us.
            thread::scope(|scope| {
                scope.spawn(move || {
                    // A program that stops reading has failed and reports it.
                    stdin.map(|mut pipe| pipe.write_all(input.as_bytes()))
                });
                child.wait_with_output()
            })
        })?;
        let output =
            ran.map_err(|source| Error::Spawn { program: program.into(), namespace: self.name().into(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Command {
            command: [&[program], args].concat().join(" "),
            namespace: self.name().into(),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Loads an nftables script (`nft -f -`).
    ///
    /// # Errors
    /// [`Error::Command`] with nft's message.
    pub fn nft(&self, script: &str) -> Result<String> {
        self.output("nft", &["-f", "-"], script)
    }

    /// Runs several `ip` commands at once (`ip -batch -`), one per line.
    pub(crate) fn ip_batch(&self, lines: &str) -> Result<()> {
        match self.output("ip", &["-batch", "-"], lines) {
            Ok(_) => Ok(()),
            Err(Error::Command { namespace, status, stderr, .. }) => {
                // ip says "Command failed -:3": show the line rather than its number.
                let at = stderr.rsplit("-:").next().and_then(|tail| tail.trim().parse::<usize>().ok());
                let line = at.and_then(|number| lines.lines().nth(number.saturating_sub(1))).unwrap_or("-batch -");
                Err(Error::Command { command: format!("ip {line}"), namespace, status, stderr })
            }
            Err(other) => Err(other),
        }
    }

    /// Sets sysctls of the namespace, given as `(key, value)` with the key relative to `/proc/sys`, for example
    /// `("net/ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// [`Error::Sysctl`] naming the key.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                fs::write(format!("/proc/sys/{key}"), value).map_err(|source| Error::Sysctl {
                    key: (*key).to_owned(),
                    namespace: self.name().into(),
                    source,
                })?;
            }
            Ok(())
        })?
    }

    /// A path other processes can open while this one lives: `/proc/PID/fd/N`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.inner.fd.as_raw_fd())
    }

    /// The start of a shell command that runs in the namespace, for people.
    pub fn nsenter_line(&self) -> String {
        format!("nsenter --net={}", self.path())
    }

    /// The global addresses the lab gave this namespace, in the order they were given.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.inner.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_address(&self, address: IpAddr) {
        self.inner.addresses.lock().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    /// Equal for clones, and never reused for another namespace of this process.
    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn failed(&self, stage: &'static str, source: io::Error) -> Error {
        Error::Namespace { stage, namespace: self.name().into(), source }
    }
}

impl AsRef<Namespace> for Namespace {
    fn as_ref(&self) -> &Namespace {
        self
    }
}
