//! Summaries of samples.

use std::time::Duration;

/// Samples in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<_> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    pub(crate) fn milliseconds<'a>(samples: impl IntoIterator<Item = &'a Duration>) -> Self {
        Self::of(samples.into_iter().map(|sample| milliseconds(*sample)))
    }

    /// The value that this share of the samples does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "there are few samples"
        )]
        let position = (last as f64 * share).ceil() as usize;
        self.0.get(position).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The lowest and the highest.
    pub(crate) fn spread(&self) -> (f64, f64) {
        (self.quantile(0.0), self.quantile(1.0))
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
