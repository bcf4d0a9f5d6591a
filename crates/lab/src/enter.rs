//! Commands that start inside a namespace and die with the thread that started them.

#![expect(unsafe_code, reason = "between fork and exec is the only place to change the child's namespace and signals")]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// A command that will run `program` in the network namespace of the file `namespace`, and that the kernel kills when
/// the thread that starts it ends.
pub(crate) fn command(program: impl AsRef<OsStr>, namespace: Arc<File>) -> Command {
    let mut command = Command::new(program);
    let parent = process::id();
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe functions may be called.
    // It makes three system calls, and allocates nothing: errors are made from the error number alone.
    unsafe {
        command.pre_exec(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the signal was requested.
            let is_orphan = u32::try_from(getppid().as_raw()) != Ok(parent);
            if is_orphan { Err(io::Error::from(Errno::ESRCH)) } else { Ok(()) }
        });
    }
    command
}
