//! A minimal netlink encoder and decoder.

#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod read;
mod socket;
mod write;

pub(crate) use read::{Attributes, Message};
pub(crate) use socket::{Answer, Socket};
pub(crate) use write::{Header, Writer};

/// `NETLINK_NETFILTER`.
pub(crate) const NETFILTER: isize = 12;

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_EXCL`.
pub(crate) const EXCLUSIVE: u16 = 0x200;
