//! Detects changes by other programs to a table without an owner (kernels before 6.9).

use palisade_ruleset::model::TABLE;

use super::Table;
use crate::Error;
use crate::codec::{nfproto, nfta};
use crate::netlink::{Attributes, NETFILTER, Socket};

/// `NFNLGRP_NFTABLES`: every change of nftables in the network namespace.
const GROUP: u32 = 7;

/// Changes of the table by other programs. It may be passed to another thread.
#[derive(Debug)]
pub struct ForeignChanges {
    socket: Socket,
    /// The socket whose changes are ours.
    own: u32,
}

impl Table {
    /// Watches for changes by other programs from now on; call it in the table's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn foreign_changes(&self) -> Result<ForeignChanges, Error> {
        let failed = |source| Error::Socket { protocol: "netfilter", source };
        let socket = Socket::open(NETFILTER).map_err(failed)?;
        socket.join(GROUP).map_err(failed)?;
        Ok(ForeignChanges { socket, own: self.socket.port() })
    }
}

impl ForeignChanges {
    /// Leaves room for only a few messages.
    #[cfg(test)]
    pub(super) fn shrink(&self) {
        self.socket.shrink();
    }

    /// Waits, at most ten seconds, and returns whether another program has changed the table, or may have: messages
    /// that did not fit the buffer are lost.
    ///
    /// # Errors
    /// [`Error::Read`]; then [`Table::foreign_changes`] opens it again.
    pub fn wait(&mut self) -> Result<bool, Error> {
        let own = self.own;
        let meant = |message: &crate::netlink::Message<'_>| {
            message.port != own
                && message.body.first() == Some(&nfproto::INET)
                // The name of the table is the first attribute of every kind of object.
                && Attributes::after(message.body, 4).string(nfta::TABLE_NAME) == Some(TABLE)
        };
        self.socket.wait_for(meant).map_err(|source| Error::Read { what: "changes of nftables", source })
    }
}
