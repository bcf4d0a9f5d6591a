//! Deadlines and pauses of everything that concerns an API server.

use std::time::Duration;

/// Deadlines, pauses and sizes of an [`ApiServer`](crate::ApiServer).
///
/// The defaults are those of the agent; tests use shorter ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until the head of a response arrives, connecting included; until a page of a list, or the answer to a single
    /// question, is complete.
    pub answer: Duration,
    /// The requested length of a watch; up to a fifth more or less.
    pub watch: Duration,
    /// The same for a server that sends no bookmarks: the ends of its watches are its only signs of life.
    pub short_watch: Duration,
    /// A watch that is silent for this long is dropped and resumed from its last version. Servers send bookmarks once a
    /// minute or shortly before the end of a watch.
    pub silence: Duration,
    /// A watch that ends in good order before this age still counts as a failure.
    pub brief: Duration,
    /// The wait after a failure, doubled with each further failure, plus up to half of that at random.
    pub retry_first: Duration,
    /// The longest wait before an attempt.
    pub retry_most: Duration,
    /// After this many refusals in a row to start a watch, everything is listed again.
    pub refusals: u32,
    /// A kind that was watched for this long without a failure is healthy: its failures are forgotten.
    pub healthy: Duration,
    /// The pause between lists of a kind that is not healthy, up to an eighth less at random; the first list after it
    /// was healthy does not wait. The same holds for lists on request, except the first.
    pub between_lists: Duration,
    /// As a safeguard, everything is listed again after this time, up to a tenth sooner or later.
    pub relist: Duration,
    /// The size of a page of a list, in bytes, above which pages get fewer objects.
    pub page_bytes: usize,
    /// The time over which agents spread simultaneous notices: each waits a random part of it.
    pub notice_spread: Duration,
    /// The pause between requests for Events.
    pub notice_pause: Duration,
    /// The interval of reading the node's pod ranges once they are known, up to a tenth more or less.
    pub ranges: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            watch: Duration::from_secs(120),
            short_watch: Duration::from_secs(45),
            silence: Duration::from_secs(70),
            brief: Duration::from_secs(5),
            retry_first: Duration::from_millis(800),
            retry_most: Duration::from_secs(30),
            refusals: 3,
            healthy: Duration::from_secs(60),
            between_lists: Duration::from_secs(60),
            relist: Duration::from_secs(3600),
            page_bytes: 16 << 20,
            notice_spread: Duration::from_secs(10),
            notice_pause: Duration::from_secs(1),
            ranges: Duration::from_secs(300),
        }
    }
}
