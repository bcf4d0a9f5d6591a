//! The times of the next retry and of the next list.

use std::time::Duration;

use tokio::time::Instant;

use super::chance;
use super::timing::Timing;

/// The pace of one kind.
///
/// A kind is healthy once it was watched without a failure for [`Timing::healthy`]. A list that succeeds proves little:
/// its watch may expire at once, and repeated lists are the worst load for a server in trouble.
#[derive(Debug)]
pub(super) struct Pace {
    timing: Timing,
    /// Failures since the kind was last healthy.
    failures: u32,
    /// The start of the watches without a failure.
    watched: Option<Instant>,
    /// Necessary lists since the kind was last healthy; the one that made it healthy counts.
    lists: u32,
    last_list: Option<Instant>,
    /// The start of the last list on request.
    last_request: Option<Instant>,
}

/// Lists that may follow one another quickly: one, and another when its watch fails.
const QUICK_LISTS: u32 = 2;

impl Pace {
    pub(super) fn new(timing: Timing) -> Self {
        Self { timing, failures: 0, watched: None, lists: 0, last_list: None, last_request: None }
    }

    /// Notes a failure. Returns the wait before the next attempt.
    pub(super) fn failed(&mut self) -> Duration {
        self.watched = None;
        self.failures = self.failures.saturating_add(1);
        let Timing { retry_first, retry_most, .. } = self.timing;
        if self.failures == 1 {
            return chance::up_to(retry_first);
        }
        chance::after_failures(self.failures.saturating_sub(1), retry_first, retry_most)
    }

    /// The number of failures since the kind was last healthy.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes that a watch runs.
    pub(super) fn watched(&mut self) {
        let now = Instant::now();
        let since = *self.watched.get_or_insert(now);
        if now.duration_since(since) >= self.timing.healthy {
            self.failures = 0;
            self.lists = self.lists.min(QUICK_LISTS.saturating_sub(1));
        }
    }

    /// Notes the first page of a list. `required`: no watch is possible without the list.
    pub(super) fn list_begins(&mut self, required: bool) {
        self.lists = self.lists.saturating_add(u32::from(required));
        self.last_list = Some(Instant::now());
    }

    /// The earliest start of the next list.
    pub(super) fn list_due(&self) -> Instant {
        let now = Instant::now();
        match self.last_list {
            Some(last) if self.lists >= QUICK_LISTS => (last + self.between()).max(now),
            _ => now,
        }
    }

    /// Notes the request for a list. Returns its earliest start.
    pub(super) fn wish(&mut self) -> Instant {
        let now = Instant::now();
        let between = self.timing.between_lists;
        if self.last_request.is_none_or(|last| now.duration_since(last) >= between) {
            self.last_request = Some(now);
            return now;
        }
        self.last_list.map_or(now, |last| (last + self.between()).max(now))
    }

    /// The pause between lists. A tenth of it is random, and it does not exceed the configured pause: until then, a
    /// server that has recovered may go unnoticed.
    fn between(&self) -> Duration {
        chance::about(self.timing.between_lists, 0.05).mul_f64(0.93)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn pace() -> Pace {
        Pace::new(Timing::default())
    }

    fn wait(pace: &Pace) -> Duration {
        pace.list_due().duration_since(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_expiries_costs_one_list_a_minute() {
        let mut pace = pace();
        let begin = Instant::now();
        let mut lists = Vec::new();
        while begin.elapsed() < Duration::from_secs(600) {
            advance(wait(&pace)).await;
            pace.list_begins(true);
            lists.push(begin.elapsed());
            pace.watched();
            advance(pace.failed()).await;
        }
        assert!((10..=13).contains(&lists.len()), "{lists:?}");
        assert!(lists[1] < Duration::from_secs(1), "{lists:?}");
        let about_a_minute = Duration::from_secs(53)..Duration::from_secs(60);
        assert!(
            lists.windows(2).skip(1).all(|pair| about_a_minute.contains(&(pair[1].saturating_sub(pair[0])))),
            "{lists:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_minute_of_watching_the_first_list_is_free_again() {
        let mut pace = pace();
        for _ in 0..5 {
            pace.list_begins(true);
            pace.failed();
        }
        assert!(pace.failed() > Duration::from_secs(10));
        assert!(wait(&pace) > Duration::from_secs(30));
        pace.watched();
        advance(Duration::from_secs(59)).await;
        pace.watched();
        assert_eq!(pace.failures(), 6, "not healthy yet");
        advance(Duration::from_secs(1)).await;
        pace.watched();
        assert_eq!((pace.failures(), wait(&pace)), (0, Duration::ZERO));
        pace.list_begins(true);
        assert!(wait(&pace) >= Duration::from_secs(52), "one, not more");
        assert!(pace.failed() <= Duration::from_millis(800));
    }

    #[tokio::test(start_paused = true)]
    async fn one_requested_list_a_minute_starts_at_once() {
        let mut pace = pace();
        pace.list_begins(true);
        assert_eq!(pace.wish(), Instant::now());
        pace.list_begins(false);
        assert_eq!(wait(&pace), Duration::ZERO, "a requested list is not a sign of trouble");
        assert!(pace.wish() >= Instant::now() + Duration::from_secs(52));
        advance(Duration::from_secs(61)).await;
        assert_eq!(pace.wish(), Instant::now());
    }
}
