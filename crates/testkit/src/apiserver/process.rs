//! Programs that end with this process, however it ends.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{Launcher, Result, setup};

/// Becomes the program given as arguments, leaving behind a watcher that kills it when our end of its stdin closes,
/// which the kernel does even when we are killed. (The program's own parent-death signal would come when the thread
/// that started it ends, and tests run in threads.) The watcher's parent-death signal ends it together with the
/// program, so it never kills another process.
const SUPERVISE: &str = r#"
exec 3<&0 </dev/null
setpriv --pdeathsig KILL sh -c 'read -r _ <&3; kill -KILL "$1"' watcher $$ &
exec 3<&-
exec "$@"
"#;

/// A running program; dropping it kills it and waits for its end.
pub(super) struct Supervised {
    child: Child,
}

impl Supervised {
    pub(super) fn launch(program: &Path, flags: &[String], log: &File, launcher: &Launcher) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISE, "supervise"])
            .arg(program)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        let child = launcher(&mut command)?;
        Ok(Supervised { child })
    }

    /// The exit status, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Both fail only when it has already ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Removes a directory: when dropped, or when this process ends without dropping it, as for a `static`.
pub(super) struct Cleanup {
    directory: PathBuf,
    remover: Child,
}

/// Waits for the end of stdin. The programs that write to the directory die at the same moment, so it may take more
/// than one attempt.
const REMOVE: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$1" 2>/dev/null && exit
  sleep 0.1
done
"#;

impl Cleanup {
    pub(super) fn of(directory: &Path) -> Result<Self> {
        let remover = Command::new("sh")
            .args(["-c", REMOVE, "remove"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| setup("start sh", source))?;
        Ok(Cleanup { directory: directory.to_owned(), remover })
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        // The remover retries what cannot be removed here.
        _ = fs::remove_dir_all(&self.directory);
        _ = self.remover.wait();
    }
}
