//! Whether others have written to nftables, by the generations that we know of.

/// What is known about the writes of others since the table was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Others {
    /// The generation up to which all batches are known to be ours, or to be contained in what was read.
    known: Option<u32>,
    /// Somebody wrote between a reading and a batch of ours, or around one.
    wrote: bool,
}

impl Others {
    /// The table was read as it was at a generation.
    pub(super) fn read(&mut self, generation: u32) {
        *self = Self { known: Some(generation), wrote: false };
    }

    /// The table was made whole by a batch of ours, `alone` if nobody wrote around it.
    pub(super) fn know(&mut self, generation: u32, alone: bool) {
        *self = Self { known: Some(generation), wrote: !alone };
    }

    /// A batch of ours is about to be sent at a generation. Whatever becomes of it, an earlier write stays known.
    pub(super) fn begin(&mut self, before: u32) {
        self.wrote |= self.known != Some(before);
        self.known = Some(before);
    }

    /// It was done, and this is the generation after it.
    pub(super) fn end(&mut self, after: u32, others: bool) {
        self.wrote |= others;
        self.known = Some(after);
    }

    /// Whether somebody may have written, if this is the generation now.
    pub(super) fn wrote(self, now: u32) -> bool {
        self.wrote || self.known != Some(now)
    }
}
