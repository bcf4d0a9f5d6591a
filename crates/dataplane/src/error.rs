//! What can go wrong between us and the kernel.

use std::io;

use nix::errno::Errno;

/// A failure, by the stage that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("cannot open a {protocol} netlink socket; Palisade needs CAP_NET_ADMIN")]
    Socket {
        /// The netlink protocol.
        protocol: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another live process owns the table.
    #[error("another palisade agent ({owner}) owns table inet palisade; stop it, then try again")]
    Owned {
        /// The process, as far as it can be told.
        owner: String,
    },
    /// Something could not be read from the kernel.
    #[error("cannot read {what} from the kernel{}", hint_for(.source))]
    Read {
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An operation has no form that the kernel knows.
    #[error("cannot write {operation}: {reason}")]
    Unencodable {
        /// The operation and its object.
        operation: String,
        /// Why not.
        reason: String,
    },
    /// The kernel refused a batch. Nothing of it was done.
    #[error("the kernel refused to {operation}: {}; {hint}", .errno.desc())]
    Refused {
        /// The operation, its object, and the comment of the rule or element at fault.
        operation: String,
        /// Its place in the batch; none if the batch was refused as a whole.
        index: Option<usize>,
        /// Why.
        errno: Errno,
        /// What it usually means.
        hint: &'static str,
    },
    /// Somebody else changed nftables after the given generation. Nothing of the batch was done.
    #[error("nftables was changed by somebody else meanwhile; read it back and try again")]
    Stale,
    /// A batch could not be sent. Nothing of it was done.
    #[error("cannot send {bytes} bytes to the kernel")]
    Send {
        /// The length of the batch.
        bytes: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer was lost, and it cannot be told whether the batch was done.
    #[error("the kernel's answer to a batch was lost; read the table back to see whether it was done")]
    Unknown,
    /// One of the batches of a transaction failed; those before it are done, those after it were not sent.
    #[error("the {step} batch failed")]
    Step {
        /// The batch: stage, widen, switch or sweep.
        step: &'static str,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A conntrack entry could not be deleted.
    #[error("cannot delete a conntrack entry of {address}")]
    Forget {
        /// The address that left its pod.
        address: std::net::IpAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn hint_for(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => "; Palisade needs CAP_NET_ADMIN in this network namespace",
        Some(Errno::EINTR) => "; somebody else keeps changing it",
        _ => "",
    }
}
