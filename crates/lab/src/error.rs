//! What can go wrong while building or using a lab.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// The result of a lab operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A lab operation that failed; the variant names the stage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process may not build namespaces.
    #[error("the lab needs {missing}: run it as root, or in a user namespace of your own (`unshare -Urn`)")]
    Privilege {
        /// The capabilities that are missing, by name.
        missing: String,
    },
    /// A program is not installed.
    #[error("the lab needs the program `{tool}`, which is not installed: `apt-get install {package}`")]
    Tool {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The kernel lacks something.
    #[error("the kernel lacks {what}: {hint}")]
    Kernel {
        /// What is missing.
        what: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// A network namespace could not be made or entered.
    #[error("cannot {stage} network namespace `{namespace}`")]
    Namespace {
        /// `create`, `open`, `enter` or `spawn a thread in`.
        stage: &'static str,
        /// The lab's name of the namespace.
        namespace: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}` in namespace `{namespace}`")]
    Spawn {
        /// The program.
        program: String,
        /// The lab's name of the namespace.
        namespace: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed in namespace `{namespace}` ({status}): {stderr}")]
    Command {
        /// The command line, or for a batch the line that failed.
        command: String,
        /// The lab's name of the namespace.
        namespace: String,
        /// Its exit status, in words.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// A sysctl could not be written.
    #[error("cannot set sysctl {key} in namespace `{namespace}`")]
    Sysctl {
        /// The key with slashes, relative to `/proc/sys`.
        key: String,
        /// The lab's name of the namespace.
        namespace: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A socket operation failed.
    #[error("cannot {what} in namespace `{namespace}`")]
    Socket {
        /// What was tried.
        what: String,
        /// The lab's name of the namespace.
        namespace: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// An operation that belongs to no namespace failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A pod or host of that name exists.
    #[error("`{name}` exists already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No pod of that name exists.
    #[error("there is no pod `{name}` on node `{node}`")]
    NoSuchPod {
        /// The name.
        name: String,
        /// The node asked.
        node: String,
    },
    /// The address belongs to another pod, or to the gateway.
    #[error("address {address} is taken on node `{node}`")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The node.
        node: String,
    },
    /// The node's pod range holds no free address.
    #[error("node `{node}` has no free pod address left")]
    AddressesExhausted {
        /// The node.
        node: String,
    },
    /// The endpoint has no address of the family asked for.
    #[error("`{name}` has no {family} address")]
    NoAddress {
        /// The endpoint.
        name: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A packet mixes address families.
    #[error("{source_address} and {destination} are of different families")]
    FamilyMismatch {
        /// The source.
        source_address: IpAddr,
        /// The destination.
        destination: IpAddr,
    },
    /// A Service of that name is unknown, or two clash.
    #[error("Service `{name}`: {reason}")]
    Service {
        /// The Service.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The batch is larger than ids can tell apart.
    #[error("{count} flows in one batch; at most {limit} are possible")]
    TooManyFlows {
        /// How many were asked for.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Shots of an earlier batch arrived after that batch had been judged: its verdicts were wrong.
    #[error("{count} shots of an earlier batch arrived late (first at `{namespace}`): its verdicts cannot be trusted")]
    LateShots {
        /// How many.
        count: usize,
        /// Where the first one arrived.
        namespace: String,
    },
    /// The fence behind a batch of shots did not come back.
    #[error("the fence behind a batch of shots did not come back within {waited:?}: is the machine overloaded?")]
    Fence {
        /// How long it was waited for.
        waited: Duration,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {waited:?}")]
    Deadline {
        /// The condition.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl Error {
    /// Turns a socket error into [`Error::Socket`], for use with `map_err`.
    pub(crate) fn socket<E: Into<io::Error>>(what: impl Into<String>, namespace: &str) -> impl FnOnce(E) -> Self {
        let (what, namespace) = (what.into(), namespace.to_owned());
        move |source| Self::Socket { what, namespace, source: source.into() }
    }
}
