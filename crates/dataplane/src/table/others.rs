//! Whether other programs have written to nftables, by the generations that we know.

/// What is known about other programs' writes since the table was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Others {
    /// The generation up to which all batches are known to be ours, or to be included in what was read.
    known: Option<u32>,
    /// Another program wrote between a reading and a batch of ours, or around one.
    wrote: bool,
}

impl Others {
    /// The table was read as it was at a generation.
    pub(super) fn read(&mut self, generation: u32) {
        *self = Self { known: Some(generation), wrote: false };
    }

    /// A batch of ours rebuilt the table, `alone` if no other program wrote around it.
    pub(super) fn know(&mut self, generation: u32, alone: bool) {
        *self = Self { known: Some(generation), wrote: !alone };
    }

    /// A batch of ours is about to be sent at a generation. Whatever its outcome, an earlier write stays known.
    pub(super) fn begin(&mut self, before: u32) {
        self.wrote |= self.known != Some(before);
        self.known = Some(before);
    }

    /// It took effect, and this is the generation after it.
    pub(super) fn end(&mut self, after: u32, others: bool) {
        self.wrote |= others;
        self.known = Some(after);
    }

    /// Whether another program may have written, if this is the current generation.
    pub(super) fn wrote(self, now: u32) -> bool {
        self.wrote || self.known != Some(now)
    }
}
