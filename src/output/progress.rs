//! A line on a terminal while a verb works.

use std::io::{self, IsTerminal as _, Write as _};

/// A line on stderr that is there as long as this; there is none if stderr is not a terminal.
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    /// Shows what the verb is doing.
    pub(crate) fn of(what: &str) -> Self {
        let mut stderr = io::stderr().lock();
        let erases = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let shown = erases && stderr.is_terminal() && write!(stderr, "{what} …").and_then(|()| stderr.flush()).is_ok();
        Self { shown }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // Back to the start of the line, and erase it. If stderr is gone, there is nothing left to do.
            io::stderr().write_all(b"\r\x1b[K").ok();
        }
    }
}
