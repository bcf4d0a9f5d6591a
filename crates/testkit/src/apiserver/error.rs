//! Errors of the fixture.

use std::io;

/// An error of the fixture. `Debug` prints the message, since tests unwrap.
#[derive(thiserror::Error)]
pub enum Error {
    /// A program is missing.
    #[error("no {program} in {directory}: run hack/envtest, which builds it, or set KUBEBUILDER_ASSETS")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// The searched directory.
        directory: String,
    },
    /// A file or a process could not be created.
    #[error("could not {action}: {source}")]
    Setup {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ended, or did not become ready in time.
    #[error("{program} {problem}; the end of its log:\n{log}")]
    NotReady {
        /// The program's name.
        program: &'static str,
        /// The problem.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// A request could not be sent.
    #[error("{method} {path}: {source}")]
    Unreachable {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server refused.
    #[error("{method} {path}: status {status}: {message}")]
    Refused {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// kubectl failed.
    #[error("kubectl {arguments}: {message}")]
    Kubectl {
        /// The arguments.
        arguments: String,
        /// What it wrote to stderr.
        message: String,
    },
    /// The object cannot be addressed: a field is missing.
    #[error("the object has no {field}: {object}")]
    Incomplete {
        /// The missing field.
        field: &'static str,
        /// The object as JSON.
        object: String,
    },
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Of the fixture's calls.
pub type Result<T> = std::result::Result<T, Error>;

pub(super) fn setup(action: impl Into<String>, source: io::Error) -> Error {
    Error::Setup { action: action.into(), source }
}
