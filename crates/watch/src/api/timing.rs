//! How long everything may take that has to do with an API server.

use std::time::Duration;

/// Deadlines, pauses and sizes of an [`ApiServer`](crate::ApiServer).
///
/// The defaults are those of the agent; tests have shorter ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until the head of a response is there, connecting included; until a page of a list, or the answer to a single
    /// question, is there as a whole.
    pub answer: Duration,
    /// How long the server shall keep a watch open; up to a fifth more or less is asked for.
    pub watch: Duration,
    /// The same once a server was found to send no bookmarks: its watches are audible by their ends only.
    pub short_watch: Duration,
    /// After so long without a word a watch is given up and begun again where it was. Servers send bookmarks once a minute
    /// or shortly before the end of a watch.
    pub silence: Duration,
    /// A watch that ends in good order before it is so old counts as a failure all the same.
    pub brief: Duration,
    /// After a failure the next attempt waits as long, doubled with each further failure; up to a half is added by chance.
    pub retry_first: Duration,
    /// The longest wait for an attempt.
    pub retry_most: Duration,
    /// So many refusals in a row to begin a watch, and everything is listed again.
    pub refusals: u32,
    /// A kind that was watched for so long without a failure is well: its failures are forgotten.
    pub healthy: Duration,
    /// Lists of a kind that is not well are so far apart, or up to an eighth less by chance, but for the first after it was;
    /// so are lists that were asked for, but for the first.
    pub between_lists: Duration,
    /// After so long everything is listed again to be sure, up to a tenth sooner or later.
    pub relist: Duration,
    /// The size of a page of a list, in bytes, from which on fewer objects are asked for at a time.
    pub page_bytes: usize,
    /// How many agents' simultaneous notices are spread over: each waits up to this long by chance.
    pub notice_spread: Duration,
    /// From one request for an Event to the next.
    pub notice_pause: Duration,
    /// How often the node's pod ranges are looked at again once they are known, up to a tenth sooner or later.
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
