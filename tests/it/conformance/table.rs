//! The table of cases: YAML files for people, read here line by line.
//!
//! A file contains several cases, as documents. A case is a list of steps; most change objects, and `expect` says who
//! reaches whom then. Manifests and matrices are block texts. The README in that directory describes the format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fmt, fs};

use palisade_policy::input::Protocol;
use serde_json::Value;

use crate::conformance::cluster::Stack;

/// The namespaces and the pods in each, as in the upstream suite.
pub(crate) const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub(crate) const PODS: [&str; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];

/// One behaviour.
#[derive(Debug)]
pub(crate) struct Case {
    /// Unique; the name of an upstream test begins with its number.
    pub(crate) name: String,
    /// The stacks in which it runs.
    pub(crate) stacks: Vec<Stack>,
    /// The ways of checking it.
    pub(crate) ways: Vec<Way>,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
}

/// A way of checking a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Evaluator,
    Walk,
    Packets,
}

impl Way {
    const ALL: [Self; 3] = [Self::Evaluator, Self::Walk, Self::Packets];

    fn name(self) -> &'static str {
        match self {
            Self::Evaluator => "evaluator",
            Self::Walk => "walk",
            Self::Packets => "packets",
        }
    }
}

/// One step of a case.
#[derive(Debug)]
pub(crate) enum Step {
    /// Manifests of policies are applied.
    Apply(String),
    /// A policy's `spec` is written to the API server's storage, bypassing validation: namespace and name.
    Store(String, Value),
    /// A policy is deleted: namespace and name.
    Delete(String),
    /// Labels of a pod (`x/a`) or namespace (`x`) are changed; null removes one.
    Label(String, Value),
    /// A pod becomes terminating, and keeps running for as long as it may.
    Terminate(String),
    /// A namespace becomes terminating; everything in it is still there.
    Close(String),
    /// Every agent ends and another one starts.
    Restart,
    /// A pod differs from all others: a merge patch of it, before it is created, or of its status later.
    Pod(String, Value),
    /// Who reaches whom.
    Expect(Expect),
}

/// A matrix of verdicts for one protocol and port.
#[derive(Debug)]
pub(crate) struct Expect {
    pub(crate) transport: Transport,
    /// Who reaches whom, by both their names. A pod always reaches itself.
    pub(crate) reaches: BTreeMap<(String, String), bool>,
}

/// A kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Port(Protocol, u16),
    /// An ICMP echo.
    Ping,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{protocol:?} {port}"),
            Self::Ping => f.write_str("ICMP"),
        }
    }
}

/// Reads all cases of a directory below `tests/data`.
pub(crate) fn read(directory: &str) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(directory);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for document in text.split("\n---\n") {
            cases.push(case(document).unwrap_or_else(|error| panic!("{}: {error}\n{document}", file.display())));
        }
    }
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have the same name");
    cases
}

fn case(text: &str) -> Result<Case, String> {
    let (mut name, mut proves, mut steps) = (None, None, Vec::new());
    let (mut stacks, mut ways) = (Stack::ALL.to_vec(), Way::ALL.to_vec());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') || line == "steps:" {
            continue;
        }
        let (verb, rest) = line.split_once(": ").ok_or_else(|| format!("no `verb: value`: {line}"))?;
        match verb {
            "case" => name = Some(rest.to_owned()),
            "proves" => proves = Some(rest.to_owned()),
            "stacks" => stacks.retain(|stack| rest.split(' ').any(|word| word == stack.name())),
            "ways" => ways.retain(|way| rest.split(' ').any(|word| word == way.name())),
            _ => {
                let verb = verb.strip_prefix("- ").ok_or_else(|| format!("no step: {line}"))?;
                let mut block = String::new();
                if rest == "|" {
                    while let Some(line) = lines.next_if(|line| line.starts_with("    ") || line.trim().is_empty()) {
                        block.push_str(line.get(4..).unwrap_or_default());
                        block.push('\n');
                    }
                } else {
                    rest.clone_into(&mut block);
                }
                steps.push(step(verb, block).map_err(|error| format!("{line}\n{error}"))?);
            }
        }
    }
    let name = name.ok_or("no `case:`")?;
    proves.filter(|text: &String| !text.is_empty()).ok_or("no `proves:`")?;
    let expects = steps.iter().filter(|step| matches!(step, Step::Expect(_))).count();
    if expects == 0 || !matches!(steps.last(), Some(Step::Expect(_))) {
        return Err("a case ends in what is expected".to_owned());
    }
    if stacks.is_empty() || ways.is_empty() {
        return Err("a case without a stack or a way is none".to_owned());
    }
    Ok(Case { name, stacks, ways, steps })
}

fn step(verb: &str, block: String) -> Result<Step, String> {
    let json = |text: &str| serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"));
    let words: Vec<_> = verb.split(' ').collect();
    Ok(match words.as_slice() {
        ["apply"] => Step::Apply(block),
        ["delete"] => Step::Delete(block),
        ["terminate"] => Step::Terminate(block),
        ["close"] => Step::Close(block),
        ["restart"] => Step::Restart,
        ["label", object] => Step::Label((*object).to_owned(), json(&block)?),
        ["store", policy] => Step::Store((*policy).to_owned(), json(&block)?),
        ["pod", pod] => Step::Pod((*pod).to_owned(), json(&block)?),
        ["expect", transport @ ..] => {
            Step::Expect(Expect { transport: parse_transport(transport)?, reaches: matrix(&block)? })
        }
        _ => return Err("no such step".to_owned()),
    })
}

fn parse_transport(words: &[&str]) -> Result<Transport, String> {
    let protocol = match words {
        ["ICMP"] => return Ok(Transport::Ping),
        ["TCP", _] => Protocol::Tcp,
        ["UDP", _] => Protocol::Udp,
        ["SCTP", _] => Protocol::Sctp,
        _ => return Err("expect ICMP, or TCP, UDP or SCTP and a port".to_owned()),
    };
    words[1].parse().map(|port| Transport::Port(protocol, port)).map_err(|error| format!("no port: {error}"))
}

/// Reads a matrix. The first line names the columns: `x abc` are three pods of x, `world` one host. Every other line is
/// a source, or several with `*` or commas, or `others`, and a sign for each column.
fn matrix(text: &str) -> Result<BTreeMap<(String, String), bool>, String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let columns = columns(lines.next().ok_or("an empty matrix")?)?;
    let mut reaches = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for line in lines {
        let (sources, cells) = line.trim().split_once(' ').ok_or_else(|| format!("no row: {line}"))?;
        let cells: Vec<_> = cells.chars().filter(|cell| *cell != ' ').collect();
        if cells.len() != columns.len() {
            return Err(format!("{} columns, but {} cells: {line}", columns.len(), cells.len()));
        }
        for source in expand(sources, &known)? {
            if !known.insert(source.clone()) {
                return Err(format!("{source} has two rows"));
            }
            for (column, cell) in columns.iter().zip(&cells) {
                let reached = match cell {
                    '+' => true,
                    '-' => false,
                    '.' => continue,
                    other => return Err(format!("{other} is none of + - .")),
                };
                reaches.insert((source.clone(), column.clone()), reached || source == *column);
            }
        }
    }
    let missing: Vec<_> = PODS.iter().filter(|pod| !known.contains(**pod)).collect();
    if missing.is_empty() { Ok(reaches) } else { Err(format!("no rows for {missing:?}")) }
}

fn columns(header: &str) -> Result<Vec<String>, String> {
    let mut words = header.split_whitespace().peekable();
    let mut columns = Vec::new();
    while let Some(word) = words.next() {
        if NAMESPACES.contains(&word) {
            let pods = words.next().ok_or_else(|| format!("no pods of {word}"))?;
            columns.extend(pods.chars().map(|pod| format!("{word}/{pod}")));
        } else {
            columns.push(word.to_owned());
        }
    }
    match columns.iter().find(|column| column.contains('/') && !PODS.contains(&column.as_str())) {
        Some(column) => Err(format!("{column} is no pod")),
        None => Ok(columns),
    }
}

/// The sources of a row's label.
fn expand(label: &str, known: &BTreeSet<String>) -> Result<Vec<String>, String> {
    if label == "others" {
        return Ok(PODS.iter().filter(|pod| !known.contains(**pod)).map(ToString::to_string).collect());
    }
    let mut sources = Vec::new();
    for pattern in label.split(',') {
        let Some((namespace, pod)) = pattern.split_once('/') else {
            sources.push(pattern.to_owned());
            continue;
        };
        let matches = |name: &&&str| {
            let (a, b) = name.split_once('/').unwrap();
            (namespace == "*" || namespace == a) && (pod == "*" || pod == b)
        };
        let before = sources.len();
        sources.extend(PODS.iter().filter(matches).map(ToString::to_string));
        if sources.len() == before {
            return Err(format!("{pattern} is no pod"));
        }
    }
    Ok(sources)
}
