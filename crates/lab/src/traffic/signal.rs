//! Wakes and stops a thread that waits in `poll`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};

/// A flag that a thread waits on together with its sockets.
#[derive(Debug)]
pub(crate) struct Stop {
    event: EventFd,
    raised: AtomicBool,
}

impl Stop {
    fn new() -> Result<Self> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::Io { what: "make an event descriptor", source: errno.into() })?;
        Ok(Self { event, raised: AtomicBool::new(false) })
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Wakes the waiting thread without stopping it.
    pub(crate) fn nudge(&self) {
        // A full counter means that a wake-up is already pending.
        self.event.write(1).ok();
    }

    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.nudge();
    }

    /// Waits until one of the sockets is ready, the flag is touched or the time is over, and returns which of `wanted`
    /// are ready, by position.
    pub(crate) fn wait(
        &self,
        wanted: &[(BorrowedFd<'_>, PollFlags)],
        limit: Option<Duration>,
    ) -> io::Result<Vec<usize>> {
        let mut polled = Vec::with_capacity(wanted.len() + 1);
        polled.extend(wanted.iter().map(|&(fd, flags)| PollFd::new(fd, flags)));
        polled.push(PollFd::new(self.event.as_fd(), PollFlags::POLLIN));
        wait_for(&mut polled, limit)?;
        // Only a touched counter can be read; otherwise there is nothing to reset.
        self.event.read().ok();
        Ok(ready(&polled).filter(|&position| position < wanted.len()).collect())
    }
}

/// `poll`, rounding the time up so that a caller never spins, and continuing after signals.
pub(crate) fn wait_for(polled: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let timeout = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The positions with events.
pub(crate) fn ready<'a>(polled: &'a [PollFd<'_>]) -> impl Iterator<Item = usize> + 'a {
    polled.iter().enumerate().filter(|(_, fd)| fd.any().unwrap_or(true)).map(|(position, _)| position)
}

/// A thread that is stopped and joined when this value is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread in this process's own namespace; it works on sockets made elsewhere.
    pub(crate) fn start(name: &str, work: impl FnOnce(&Stop) + Send + 'static) -> Result<Self> {
        let stop = Arc::new(Stop::new()?);
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&seen))
            .map_err(|source| Error::Io { what: "start a thread", source })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Wakes the thread.
    pub(crate) fn nudge(&self) {
        self.stop.nudge();
    }

    /// Stops the thread and waits for it. A panic in it is passed on.
    pub(crate) fn finish(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take()
            && let Err(cause) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(cause);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.finish();
    }
}
