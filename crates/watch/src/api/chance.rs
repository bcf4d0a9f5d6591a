//! Random waiting times, so that the agents of a cluster do not all send requests at once.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// A random number from 0 to 1.
fn chance() -> f64 {
    let bits = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

/// A random time up to `most`.
pub(super) fn up_to(most: Duration) -> Duration {
    most.mul_f64(chance())
}

/// A random time around `middle`: up to `part` of it more or less.
pub(super) fn about(middle: Duration, part: f64) -> Duration {
    middle.mul_f64(1.0 - part + 2.0 * part * chance())
}

/// The wait after this many failures in a row: doubled with each, plus up to half of that at random.
pub(super) fn after_failures(failures: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(most);
    about(doubled, 0.25).mul_f64(1.25).min(most.max(first).mul_f64(1.5))
}

#[cfg(test)]
mod tests {
    use super::{about, after_failures, up_to};
    use std::time::Duration;

    const FIRST: Duration = Duration::from_millis(800);
    const MOST: Duration = Duration::from_secs(30);

    #[test]
    fn waits_grow_up_to_a_bound_and_differ() {
        for (failures, least) in
            [(1, 0.75), (2, 1.5), (3, 3.0), (6, 24.0), (7, 28.125), (40, 28.125), (u32::MAX, 28.125)]
        {
            let waits: Vec<_> = (0..200).map(|_| after_failures(failures, FIRST, MOST).as_secs_f64()).collect();
            assert!(waits.iter().all(|wait| (least..=least * 1.67).contains(wait)), "{failures}: {waits:?}");
            let (least, most) = waits.iter().fold((f64::MAX, 0.0_f64), |(a, b), w| (a.min(*w), b.max(*w)));
            assert!(most > least * 1.2, "{failures}: not random: {least} to {most}");
        }
    }

    #[test]
    fn spreads_have_the_stated_width() {
        let hour = Duration::from_secs(3600);
        let around: Vec<_> = (0..500).map(|_| about(hour, 0.1)).collect();
        assert!(around.iter().all(|time| (3240..=3960).contains(&time.as_secs())));
        assert!(around.iter().any(|time| time.as_secs() < 3300) && around.iter().any(|time| time.as_secs() > 3900));
        assert!((0..500).map(|_| up_to(hour)).any(|time| time.as_secs() > 3500));
        assert!((0..500).all(|_| up_to(hour) <= hour));
    }
}
