//! The command line of a program that measures, and its result.

use std::path::PathBuf;

use serde_json::Value;

/// The command line.
pub(crate) struct Run {
    pub(crate) quick: bool,
    json: Option<PathBuf>,
    /// What it is to measure; everything if empty.
    pub(crate) only: Vec<String>,
}

impl Run {
    /// Reads the command line; `known` has the names of what can be measured alone.
    pub(crate) fn read(known: &[String]) -> Self {
        let mut run = Self { quick: false, json: None, only: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => run.quick = true,
                "--json" => run.json = Some(arguments.next().expect("--json FILE").into()),
                // Cargo adds this.
                "--bench" => {}
                _ if known.contains(&argument) => run.only.push(argument),
                other => panic!("unknown argument {other}: --quick, --json FILE {}", known.join(" ")),
            }
        }
        run
    }

    /// Writes the rows to the file of the command line, if it names one.
    pub(crate) fn write(&self, rows: Vec<Value>) {
        if let Some(file) = &self.json {
            std::fs::write(file, format!("{:#}\n", Value::Array(rows))).expect("the JSON file");
        }
    }
}
