//! The rows that benches wrote.

use std::collections::BTreeSet;

use serde_json::Value;

/// A comparison.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Where and what, as `routed/ipv4/established/peers/100`.
    pub(crate) id: String,
    pub(crate) measured: f64,
    pub(crate) unit: String,
    pub(crate) baseline: String,
    pub(crate) spread: Option<(f64, f64)>,
    pub(crate) target: Option<f64>,
    pub(crate) met: Option<bool>,
}

/// All rows, in the order in which they were measured.
#[derive(Clone, Debug)]
pub(crate) struct Rows(pub(crate) Vec<Row>);

impl Rows {
    pub(crate) fn read(files: &[String]) -> Self {
        let all = files.iter().flat_map(|file| {
            let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
            let Value::Array(rows) = serde_json::from_str(&text).expect("JSON") else { panic!("{file}: no array") };
            rows
        });
        Self(all.map(|row| Row::of(&row)).collect())
    }

    /// The rows about packets.
    pub(crate) fn packets(&self) -> Self {
        Self(self.0.iter().filter(|row| !row.id.starts_with("agent/")).cloned().collect())
    }

    /// The first two parts of ids: `routed/ipv4`.
    pub(crate) fn places(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let places = self.0.iter().map(|row| row.id.splitn(3, '/').take(2).collect::<Vec<_>>().join("/"));
        places.filter(|place| seen.insert(place.clone())).collect()
    }

    /// The rows of a place, with the rest of their ids.
    pub(crate) fn of(&self, place: &str) -> Self {
        let of = |row: &Row| {
            let id = row.id.strip_prefix(place)?.strip_prefix('/')?;
            Some(Row { id: id.to_owned(), ..row.clone() })
        };
        Self(self.0.iter().filter_map(of).collect())
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.id == id)
    }

    /// The numbers at the end of the ids that begin so, with their rows.
    pub(crate) fn series(&self, prefix: &str) -> Vec<(u32, &Row)> {
        let numbered = |row: &'_ Row| row.id.strip_prefix(prefix)?.strip_prefix('/')?.parse().ok();
        let mut series: Vec<_> = self.0.iter().filter_map(|row| Some((numbered(row)?, row))).collect();
        series.sort_by_key(|(number, _)| *number);
        series
    }
}

impl Row {
    fn of(row: &Value) -> Self {
        let number = |value: &Value| value.as_f64();
        let spread = row["spread"].as_array().and_then(|both| Some((number(both.first()?)?, number(both.get(1)?)?)));
        Self {
            id: row["id"].as_str().expect("an id").to_owned(),
            measured: number(&row["measured"]).expect("a number"),
            unit: row["unit"].as_str().unwrap_or_default().to_owned(),
            baseline: row["baseline"].as_str().unwrap_or_default().to_owned(),
            spread,
            target: number(&row["target"]),
            met: row["met"].as_bool(),
        }
    }

    /// As in a table: `1.02 (0.98–1.07)`.
    pub(crate) fn cell(&self) -> String {
        let missed = if self.met == Some(false) { " ▲" } else { "" };
        let spread = self.spread.map(|(lowest, highest)| format!(" ({lowest:.2}–{highest:.2})")).unwrap_or_default();
        format!("{:.2}{spread}{missed}", self.measured)
    }
}
