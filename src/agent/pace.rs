//! When to retry after failures.

use std::time::{Duration, Instant};

use palisade_engine::{BackOff, Class};

/// How soon after a quarantine to try to lift it: at first, and at most.
const QUARANTINE_FIRST: Duration = Duration::from_secs(5);
const QUARANTINE_MOST: Duration = Duration::from_mins(10);

/// What to retry, and when.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    step: Option<(Instant, BackOff)>,
    quarantine: Option<(Instant, Duration)>,
    /// A quarantined object is being tried.
    trying: bool,
}

impl Retries {
    /// Schedules the retries that the engine waits for.
    pub(crate) fn follow(&mut self, back_off: Option<BackOff>, quarantined: bool) {
        match back_off {
            None => self.step = None,
            Some(new) if self.step.is_none_or(|(_, known)| known != new) => {
                self.step = Some((Instant::now() + jittered(wait(new)), new));
            }
            Some(_) => {}
        }
        if !quarantined {
            self.quarantine = None;
        } else if self.quarantine.is_none() {
            self.quarantine = Some((Instant::now() + QUARANTINE_FIRST, QUARANTINE_FIRST));
        }
    }

    /// A quarantined object is tried with the next commit.
    pub(crate) fn trying(&mut self) {
        self.trying = true;
    }

    /// A commit succeeded. If it contained a quarantined object, the next one is tried soon.
    pub(crate) fn succeeded(&mut self) {
        self.step = None;
        if std::mem::take(&mut self.trying) {
            self.quarantine = None;
        }
    }

    /// A commit failed.
    pub(crate) fn failed(&mut self) {
        self.trying = false;
    }

    /// When the next retry is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let step = self.step.map(|(due, _)| due);
        let quarantine = self.quarantine.map(|(due, _)| due);
        [step, quarantine].into_iter().flatten().min()
    }

    /// Whether the failed step is due; this clears it.
    pub(crate) fn step_is_due(&mut self, now: Instant) -> bool {
        self.step.take_if(|(due, _)| *due <= now).is_some()
    }

    /// Whether a quarantined policy is due for a retry; this schedules the next one.
    pub(crate) fn quarantine_is_due(&mut self, now: Instant) -> bool {
        let Some((due, wait)) = &mut self.quarantine else { return false };
        if *due > now {
            return false;
        }
        *wait = (*wait * 2).min(QUARANTINE_MOST);
        *due = now + jittered(*wait);
        true
    }
}

/// How long to wait after the n-th failure in a row.
fn wait(BackOff { class, failures }: BackOff) -> Duration {
    let (first, most) = match class {
        // Without the object the next attempt is a different one; the table must be read only once.
        Class::Object => (Duration::from_millis(10), Duration::from_secs(30)),
        Class::Stale | Class::Unknown => (Duration::from_millis(10), Duration::from_secs(5)),
        Class::Resources => (Duration::from_millis(50), Duration::from_secs(5)),
        Class::Denied => (Duration::from_secs(1), Duration::from_secs(30)),
        // Asking costs the kernel microseconds, and until it succeeds no agent enforces the policies.
        Class::Owned => (Duration::from_millis(250), Duration::from_millis(250)),
    };
    let doublings = failures.saturating_sub(1).min(16);
    (first * 2_u32.pow(doublings)).min(most)
}

/// Up to a quarter less, so that agents that failed together do not retry together.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(()) % 256;
    wait.saturating_sub(wait.mul_f64(0.25) * u32::try_from(random).unwrap_or_default() / 256)
}

/// Waits until `due`, if there is one.
pub(crate) async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_maximum() {
        let wait = |class, failures| wait(BackOff { class, failures });
        assert_eq!(wait(Class::Stale, 1), Duration::from_millis(10));
        assert_eq!(wait(Class::Stale, 4), Duration::from_millis(80));
        assert_eq!(wait(Class::Stale, u32::MAX), Duration::from_secs(5));
        assert_eq!(wait(Class::Owned, 1000), Duration::from_millis(250));
        for _ in 0..1000 {
            let jittered = jittered(Duration::from_secs(4));
            assert!((Duration::from_secs(3)..=Duration::from_secs(4)).contains(&jittered), "{jittered:?}");
        }
    }

    #[test]
    fn a_failure_is_due_once_and_a_quarantine_repeatedly() {
        let (start, mut retries) = (Instant::now(), Retries::default());
        let failed = Some(BackOff { class: Class::Unknown, failures: 1 });
        retries.follow(failed, true);
        let later = Instant::now() + Duration::from_secs(6);
        assert!(!retries.step_is_due(start));
        assert!(retries.step_is_due(later));
        assert!(!retries.step_is_due(later));
        assert!(retries.quarantine_is_due(later));
        assert!(!retries.quarantine_is_due(later));
        assert!(retries.quarantine_is_due(later + Duration::from_secs(11)));
        // One that succeeds makes the next one due soon.
        retries.trying();
        retries.succeeded();
        retries.follow(None, true);
        assert!(retries.due().is_some_and(|due| due <= Instant::now() + QUARANTINE_FIRST));
        retries.follow(None, false);
        assert_eq!(retries.due(), None);
    }
}
