//! What can go wrong between us and the kernel.

use std::{fmt, io};

use nix::errno::Errno;
use palisade_ruleset::name::Name;

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
        /// The object.
        object: Option<Name>,
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
        /// The object of the operation; none if it was the table, or the batch as a whole.
        object: Option<Name>,
        /// Why.
        errno: Errno,
        /// What it usually means.
        hint: &'static str,
    },
    /// Somebody else changed nftables after the given generation. Nothing of the batch was done.
    #[error("another program changed nftables in the meantime; read it back and try again")]
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
    #[error("the kernel's answer to a batch was lost; read the table back to see whether it took effect")]
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
    /// A bridge's own settings could not be changed.
    #[error("cannot turn on netfilter for bridge {bridge}")]
    Bridge {
        /// The bridge.
        bridge: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a failure is about, and so what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// The kernel does not take this object, now or later: go on without it. If [`Error::object`] names none, the batch as
    /// a whole was refused (chains in a circle, a kernel that is too old).
    Object,
    /// The table is not what it was thought to be: read it back and try again. A kernel that lacks a module of nftables
    /// answers the same (ENOENT), so what is refused again after a reading that was right is the object's fault.
    Stale,
    /// The kernel or the process is short of something. Nothing was done; try again.
    Resources,
    /// The process may not do this.
    Denied,
    /// Another live process owns the table.
    Owned,
    /// Whether it was done is not known: read the table back.
    Unknown,
}

impl Error {
    /// What the failure is about.
    pub fn kind(&self) -> Trouble {
        match self {
            Self::Owned { .. } => Trouble::Owned,
            Self::Unencodable { .. } => Trouble::Object,
            Self::Stale => Trouble::Stale,
            Self::Unknown => Trouble::Unknown,
            Self::Step { source, .. } => source.kind(),
            Self::Refused { errno, .. } => refusal(*errno),
            Self::Socket { source, .. }
            | Self::Read { source, .. }
            | Self::Send { source, .. }
            | Self::Bridge { source, .. } => failure(source),
        }
    }

    /// The set, map, chain or counter at fault, if it is one of them.
    pub fn object(&self) -> Option<&Name> {
        match self {
            Self::Unencodable { object, .. } | Self::Refused { object, .. } => object.as_ref(),
            Self::Step { source, .. } => source.object(),
            _ => None,
        }
    }
}

/// What a refused message is about. What is not known to be about something else is about the object.
fn refusal(errno: Errno) -> Trouble {
    match errno {
        Errno::ENOENT | Errno::EEXIST | Errno::EBUSY | Errno::ERESTART | Errno::ENOTEMPTY => Trouble::Stale,
        Errno::ENOMEM
        | Errno::ENOBUFS
        | Errno::EMSGSIZE
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::EAGAIN
        | Errno::EINTR => Trouble::Resources,
        Errno::EPERM | Errno::EACCES => Trouble::Denied,
        _ => Trouble::Object,
    }
}

/// What a failed system call is about.
fn failure(error: &io::Error) -> Trouble {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => Trouble::Denied,
        Some(Errno::ENOENT | Errno::ENODEV) => Trouble::Stale,
        _ => Trouble::Resources,
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "object",
            Self::Stale => "stale",
            Self::Resources => "resources",
            Self::Denied => "denied",
            Self::Owned => "owned",
            Self::Unknown => "unknown",
        })
    }
}

fn hint_for(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => "; Palisade needs CAP_NET_ADMIN in this network namespace",
        Some(Errno::EINTR) => "; another program keeps changing it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno, object: Option<&str>) -> Error {
        let object = object.map(Name::new);
        Error::Refused { operation: "add set x".to_owned(), index: Some(0), object, errno, hint: "" }
    }

    /// A quarantine closes pods, so only what the object itself cannot be may lead to one.
    #[test]
    fn only_what_an_object_cannot_be_is_its_fault() {
        let of_object = [
            Errno::EINVAL,
            Errno::EOPNOTSUPP,
            Errno::ERANGE,
            Errno::EMLINK,
            Errno::ELOOP,
            Errno::E2BIG,
            Errno::ENAMETOOLONG,
            Errno::EOVERFLOW,
        ];
        let cases: &[(&[Errno], Trouble)] = &[
            (&of_object, Trouble::Object),
            (&[Errno::ENOENT, Errno::EEXIST, Errno::EBUSY, Errno::ERESTART, Errno::ENOTEMPTY], Trouble::Stale),
            (&[Errno::ENOMEM, Errno::ENOBUFS, Errno::EMSGSIZE, Errno::EMFILE, Errno::ENFILE], Trouble::Resources),
            (&[Errno::EAGAIN, Errno::EINTR], Trouble::Resources),
            (&[Errno::EPERM, Errno::EACCES], Trouble::Denied),
        ];
        for (errnos, trouble) in cases {
            for errno in *errnos {
                assert_eq!(refused(*errno, Some("x")).kind(), *trouble, "{errno}");
            }
        }
        let inside = Error::Step { step: "switch", source: Box::new(refused(Errno::EINVAL, Some("x"))) };
        assert_eq!((inside.kind(), inside.object()), (Trouble::Object, Some(&Name::new("x"))));
        let read = Error::Read { what: "chains", source: Errno::EPERM.into() };
        assert_eq!((read.kind(), read.object()), (Trouble::Denied, None));
        assert_eq!(Error::Unknown.kind(), Trouble::Unknown);
    }
}
