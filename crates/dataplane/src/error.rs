//! Errors between Palisade and the kernel.

use std::io;

use nix::errno::Errno;
use palisade_engine::Class;
use palisade_ruleset::name::Name;

/// An error, by the stage that failed.
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
        /// The process, as far as known.
        owner: String,
    },
    /// A read from the kernel failed.
    #[error("cannot read {what} from the kernel{}", hint_for(.source))]
    Read {
        /// The subject of the read.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel has no representation for an operation.
    #[error("cannot write {operation}: {reason}")]
    Unencodable {
        /// The operation and its object.
        operation: String,
        /// The object.
        object: Option<Name>,
        /// Why not.
        reason: String,
    },
    /// The kernel rejected a batch. None of it took effect.
    #[error("the kernel refused to {operation}: {}; {hint}", .errno.desc())]
    Refused {
        /// The operation, its object, and the comment of the faulty rule or element.
        operation: String,
        /// Its position in the batch; `None` if the batch was rejected as a whole.
        index: Option<usize>,
        /// The object of the operation; `None` for the table, or the batch as a whole.
        object: Option<Name>,
        /// Why.
        errno: Errno,
        /// What it usually means.
        hint: &'static str,
    },
    /// Another program changed nftables after the given generation. None of the batch took effect.
    #[error("another program changed nftables in the meantime; read it back and try again")]
    Stale,
    /// A batch could not be sent. None of it took effect.
    #[error("cannot send {bytes} bytes to the kernel")]
    Send {
        /// The length of the batch.
        bytes: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer was lost, and it is unknown whether the batch took effect.
    #[error("the kernel's answer to a batch was lost; read the table back to see whether it took effect")]
    Unknown,
    /// One of the batches of a transaction failed; those before it took effect, those after it were not sent.
    #[error("the {step} batch failed")]
    Step {
        /// The batch, by its step.
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

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> Class {
        match self {
            Self::Owned { .. } => Class::Owned,
            Self::Unencodable { .. } => Class::Object,
            Self::Stale => Class::Stale,
            Self::Unknown => Class::Unknown,
            Self::Step { source, .. } => source.kind(),
            Self::Refused { errno, .. } => refusal(*errno),
            Self::Socket { source, .. }
            | Self::Read { source, .. }
            | Self::Send { source, .. }
            | Self::Bridge { source, .. } => failure(source),
        }
    }

    /// The faulty set, map, chain or counter, if it is one.
    pub fn object(&self) -> Option<&Name> {
        match self {
            Self::Unencodable { object, .. } | Self::Refused { object, .. } => object.as_ref(),
            Self::Step { source, .. } => source.object(),
            _ => None,
        }
    }
}

/// The class of a rejected message: the object's fault, unless the error number says otherwise.
fn refusal(errno: Errno) -> Class {
    match errno {
        Errno::ENOENT | Errno::EEXIST | Errno::EBUSY | Errno::ERESTART | Errno::ENOTEMPTY => Class::Stale,
        Errno::ENOMEM
        | Errno::ENOBUFS
        | Errno::EMSGSIZE
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::EAGAIN
        | Errno::EINTR => Class::Resources,
        Errno::EPERM | Errno::EACCES => Class::Denied,
        _ => Class::Object,
    }
}

/// The class of a failed system call.
fn failure(error: &io::Error) -> Class {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => Class::Denied,
        Some(Errno::ENOENT | Errno::ENODEV) => Class::Stale,
        _ => Class::Resources,
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

    /// A quarantine closes pods, so only an error that can have no other cause than the object may lead to one.
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
        let cases: &[(&[Errno], Class)] = &[
            (&of_object, Class::Object),
            (&[Errno::ENOENT, Errno::EEXIST, Errno::EBUSY, Errno::ERESTART, Errno::ENOTEMPTY], Class::Stale),
            (&[Errno::ENOMEM, Errno::ENOBUFS, Errno::EMSGSIZE, Errno::EMFILE, Errno::ENFILE], Class::Resources),
            (&[Errno::EAGAIN, Errno::EINTR], Class::Resources),
            (&[Errno::EPERM, Errno::EACCES], Class::Denied),
        ];
        for (errnos, trouble) in cases {
            for errno in *errnos {
                assert_eq!(refused(*errno, Some("x")).kind(), *trouble, "{errno}");
            }
        }
        let inside = Error::Step { step: "switch", source: Box::new(refused(Errno::EINVAL, Some("x"))) };
        assert_eq!((inside.kind(), inside.object()), (Class::Object, Some(&Name::new("x"))));
        let read = Error::Read { what: "chains", source: Errno::EPERM.into() };
        assert_eq!((read.kind(), read.object()), (Class::Denied, None));
        assert_eq!(Error::Unknown.kind(), Class::Unknown);
    }
}
