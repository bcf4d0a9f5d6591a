//! The rows that are printed and written as JSON.

use serde_json::{Value, json};

use crate::numbers::Samples;

/// What is shown so far.
#[derive(Default)]
pub(crate) struct Rows(pub(crate) Vec<Value>);

impl Rows {
    /// Adds and prints a figure. `target` is the highest that is aimed at.
    pub(crate) fn add(&mut self, id: &str, unit: &str, measured: f64, spread: Option<(f64, f64)>, target: Option<f64>) {
        self.compared(id, unit, "", measured, spread, target);
    }

    /// The same for the median of samples.
    pub(crate) fn median(&mut self, id: &str, unit: &str, samples: &Samples, target: Option<f64>) {
        self.add(id, unit, samples.median(), Some(samples.spread()), target);
    }

    /// The same with what it is to be compared with.
    pub(crate) fn compared(
        &mut self,
        id: &str,
        unit: &str,
        baseline: &str,
        measured: f64,
        spread: Option<(f64, f64)>,
        target: Option<f64>,
    ) {
        let met = target.map(|target| measured <= target);
        let between = spread.map_or_else(String::new, |(lowest, highest)| format!("{lowest:.2}–{highest:.2}"));
        let mark = if met == Some(false) { "▲" } else { "" };
        let aim = target.map_or_else(String::new, |target| format!("≤ {target} {mark}"));
        println!("{id:52} {measured:>10.2} {unit:16} {between:>18}  {aim:10} {baseline}");
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        self.0.push(json!({
            "id": format!("agent/{id}"),
            "measured": round(measured),
            "unit": unit,
            "baseline": baseline,
            "spread": spread.map(|(lowest, highest)| [round(lowest), round(highest)]),
            "target": target,
            "met": met,
        }));
    }
}
