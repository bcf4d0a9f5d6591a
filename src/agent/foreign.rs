//! Follows changes by other programs to a table without an owner.

use std::time::Instant;

use palisade_dataplane::table::ForeignChanges;
use tokio::sync::mpsc;

use super::enforcer::LOOK;

/// A message from the thread that follows other programs' changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreign {
    Changed,
    /// It has ended; changes may have been missed.
    Lost,
}

/// Whether other programs' changes are followed, and the channel they arrive on.
pub(super) enum Following {
    Not(mpsc::Sender<Foreign>),
    Since(mpsc::Sender<Foreign>),
    /// The time of the next attempt.
    After(Instant, mpsc::Sender<Foreign>),
}

impl Following {
    pub(super) fn sender(&self) -> mpsc::Sender<Foreign> {
        let (Self::Not(sender) | Self::Since(sender) | Self::After(_, sender)) = self;
        sender.clone()
    }

    pub(super) fn is_due(&self) -> bool {
        match self {
            Self::Not(_) => true,
            Self::Since(_) => false,
            Self::After(due, _) => *due <= Instant::now(),
        }
    }

    pub(super) fn began(&self) -> Self {
        Self::Since(self.sender())
    }

    pub(super) fn lost(&self) -> Self {
        Self::After(Instant::now() + LOOK, self.sender())
    }
}

/// Sends a notification of every change on a channel, from a thread that ends with the channel.
pub(super) fn follow(mut changes: ForeignChanges, notify: &mpsc::Sender<Foreign>) {
    while !notify.is_closed() {
        match changes.wait() {
            Ok(true) => drop(notify.try_send(Foreign::Changed)),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot follow nftables changes; trying again");
                notify.blocking_send(Foreign::Lost).ok();
                return;
            }
        }
    }
}
