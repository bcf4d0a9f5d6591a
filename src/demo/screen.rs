//! The demo's output, at most 100 columns wide.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use palisade_lab::Pod;

use super::agent::Commit;
use super::manifests::{Manifest, PORT, SERVICE_PORT};
use super::matrix::{Cell, Matrix};
use super::stage::Stage;
use crate::output::{self, Failure};

const WIDTH: usize = 100;
/// nft's indentation of the continued elements of a list, and its replacement.
const LIST_INDENT: &str = "\t\t\t     ";
const CONTINUED: &str = "      ";
/// The indentation of all text but headings.
const INDENT: &str = "   ";
/// The width of the names of clients.
const CLIENT: usize = 13;
/// A rule of the screen's width.
const RULE: &str =
    "────────────────────────────────────────────────────────────────────────────────────────────────────";

/// Stdout, a terminal or not.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    step: bool,
}

/// How an observation is marked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Alive,
    Cut,
    Wrong,
}

/// How something is painted: the numbers of an SGR sequence.
#[derive(Clone, Copy, Debug)]
enum Paint {
    Bold,
    Dim,
    Good,
    Bad,
    Part,
    Alarm,
}

impl Paint {
    fn sequence(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Part => "33",
            Self::Alarm => "1;7;31",
        }
    }
}

/// Prints a paragraph, after an empty line.
pub(super) fn paragraph(text: &str) -> Result<(), Failure> {
    output::block(&format!("\n{}", indented(text)))
}

/// Prints lines that belong to those above.
fn lines(text: &str) -> Result<(), Failure> {
    output::block(&indented(text))
}

/// A time in milliseconds, for people.
pub(super) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

impl Screen {
    /// With colours on a terminal, unless `NO_COLOR` is set; `step` waits for Enter between the steps.
    pub(super) fn new(step: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour: wanted && io::stdout().is_terminal(), step }
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", paint.sequence()) } else { text.to_owned() }
    }

    /// The first line.
    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        output::block(&format!("\n{}\n", self.paint(Paint::Bold, text)))
    }

    /// The heading of a step; with `--step`, only after Enter.
    pub(super) fn step(&self, text: &str) -> Result<(), Failure> {
        if self.step {
            output::block(&format!("\n{}", self.paint(Paint::Dim, "Enter ▸ ")))?;
            // At the end of the input the demo continues without waiting.
            io::stdin().read_line(&mut String::new()).ok();
        }
        let rule = self.paint(Paint::Dim, RULE);
        output::block(&format!("\n{rule}\n{}\n", self.paint(Paint::Bold, text)))
    }

    /// The last line.
    pub(super) fn end(&self, text: &str) -> Result<(), Failure> {
        let rule = self.paint(Paint::Dim, RULE);
        output::block(&format!("\n{rule}\n{} {text}.\n", self.paint(Paint::Good, "✓")))
    }

    /// The nodes, their pods and the Service.
    pub(super) fn stage(&self, stage: &Stage, took: Duration) -> Result<(), Failure> {
        let mut text = format!(
            "Two nodes with a bridge CNI, made of network namespaces in {}. Pods are dual-stack.\n\n",
            ms(took)
        );
        for node in stage.lab().nodes() {
            let on = stage.pods().iter().filter(|pod| pod.node() == node.name());
            let pods: Vec<_> = on.map(|pod| format!("{} {}", pod.name(), first_address(pod))).collect();
            writeln!(text, "{} {}", self.paint(Paint::Bold, &format!("{:<9}", node.name())), pods.join("   "))
                .unwrap_or(());
        }
        let [four, six] = stage.service();
        let service = self.paint(Paint::Bold, "Service  ");
        writeln!(
            text,
            "{service} {four} and {six}, port {SERVICE_PORT} ▸ shop/backend port {PORT} (DNAT, as kube-proxy does)"
        )
        .unwrap_or(());
        paragraph(&text)
    }

    /// The policies that are about to be written.
    pub(super) fn policies(&self, manifest: &Manifest) -> Result<(), Failure> {
        let mut text = String::new();
        for policy in manifest.policies {
            let name = format!("{}/{}", policy.namespace, policy.name);
            writeln!(text, "{} {}", self.paint(Paint::Good, "+"), self.paint(Paint::Bold, &name)).unwrap_or(());
            for line in policy.spec {
                writeln!(text, "    {}", self.paint(Paint::Dim, line)).unwrap_or(());
            }
        }
        paragraph(&text)
    }

    /// The policies that are about to be withdrawn.
    pub(super) fn withdrawn(&self, manifest: &Manifest) -> Result<(), Failure> {
        self.named(&self.paint(Paint::Bad, "−"), manifest)
    }

    /// The policies that are about to be restored.
    pub(super) fn returned(&self, manifest: &Manifest) -> Result<(), Failure> {
        self.named(&self.paint(Paint::Good, "+"), manifest)
    }

    fn named(&self, sign: &str, manifest: &Manifest) -> Result<(), Failure> {
        let mut text = String::new();
        for policy in manifest.policies {
            let name = format!("{}/{}", policy.namespace, policy.name);
            writeln!(text, "{sign} {}", self.paint(Paint::Bold, &name)).unwrap_or(());
        }
        paragraph(&text)
    }

    /// What the agents' logs say about the commits.
    pub(super) fn commits(&self, commits: &[Commit]) -> Result<(), Failure> {
        let mut text = String::new();
        for commit in commits {
            let operations = commit.operations.map(|count| format!("{count} operations in ")).unwrap_or_default();
            let (delay, took) = (ms(commit.delay), ms(commit.took));
            let line = format!("▸ {} committed {operations}{took}, {delay} after the change", commit.node);
            writeln!(text, "{}", self.paint(Paint::Dim, &line)).unwrap_or(());
        }
        lines(&text)
    }

    /// The state of a conversation.
    pub(super) fn observation(&self, mark: Mark, what: &str, line: &str) -> Result<(), Failure> {
        let mark = match mark {
            Mark::Alive => self.paint(Paint::Good, "✓"),
            Mark::Cut => self.paint(Paint::Bad, "✗"),
            Mark::Wrong => self.paint(Paint::Alarm, "!"),
        };
        lines(&format!("{mark} {what:<30} {line}\n"))
    }

    /// A matrix: what the policies say on the left, what packets did on the right.
    pub(super) fn matrix(&self, matrix: &Matrix) -> Result<(), Failure> {
        let mut text = String::new();
        let width =
            matrix.columns.iter().map(|name| column(name)).sum::<usize>() + matrix.columns.len().saturating_sub(1);
        let says = self.paint(Paint::Bold, &format!("{:^width$}", "the policies say"));
        let did = self.paint(Paint::Bold, &format!("{:^width$}", "packets did"));
        writeln!(text, "{:CLIENT$}  {says}    {did}", "").unwrap_or(());
        let names: Vec<_> = matrix.columns.iter().map(|name| format!("{name:^0$}", column(name))).collect();
        let names = names.join(" ");
        let header = self.paint(Paint::Dim, &format!("{:<CLIENT$}  {names}    {names}", "from      to"));
        writeln!(text, "{header}").unwrap_or(());
        for (client, cells) in &matrix.rows {
            let side = |of: fn(&Cell) -> [bool; 4]| {
                let cells = cells.iter().zip(&matrix.columns);
                cells.map(|(cell, name)| self.cell(cell.as_ref(), of, column(name))).collect::<Vec<_>>().join(" ")
            };
            let (expected, measured) = (side(|cell| cell.expected), side(|cell| cell.measured));
            writeln!(text, "{client:<CLIENT$}  {expected}    {measured}").unwrap_or(());
        }
        text.push('\n');
        let wrong = matrix.mismatches();
        for line in &wrong {
            writeln!(text, "{} {line}", self.paint(Paint::Alarm, "!")).unwrap_or(());
        }
        if wrong.is_empty() {
            let line = format!("{} connections, TCP and UDP, IPv4 and IPv6: all as the policies say", matrix.flows());
            writeln!(text, "{} {line}", self.paint(Paint::Good, "✓")).unwrap_or(());
        }
        paragraph(&text)
    }

    fn cell(&self, cell: Option<&Cell>, side: fn(&Cell) -> [bool; 4], width: usize) -> String {
        let Some(cell) = cell else { return self.paint(Paint::Dim, &format!("{:^width$}", "·")) };
        let reached = side(cell);
        let (text, paint) = match reached {
            [true, true, true, true] => ("✓", Paint::Good),
            [false, false, false, false] => ("✗", Paint::Bad),
            [true, true, false, false] => ("TCP", Paint::Part),
            [false, false, true, true] => ("UDP", Paint::Part),
            [true, false, true, false] => ("v4", Paint::Part),
            [false, true, false, true] => ("v6", Paint::Part),
            _ => ("~", Paint::Part),
        };
        let is_wrong = reached == cell.measured && cell.measured != cell.expected;
        self.paint(if is_wrong { Paint::Alarm } else { paint }, &format!("{text:^width$}"))
    }

    /// The ruleset, as nft lists it.
    pub(super) fn listing(&self, text: &str) -> Result<(), Failure> {
        let mut out = String::new();
        for line in text.lines().flat_map(|line| wrapped(&line.replace(LIST_INDENT, CONTINUED).replace('\t', "  "))) {
            let is_head = line.trim_end().ends_with('{');
            writeln!(out, "{}", if is_head { self.paint(Paint::Bold, &line) } else { line }).unwrap_or(());
        }
        paragraph(&out)
    }
}

/// The width of a column.
fn column(name: &str) -> usize {
    name.len().max(3)
}

fn first_address(pod: &Pod) -> String {
    pod.addresses().first().map(ToString::to_string).unwrap_or_default()
}

/// A line of a listing, wrapped after an element of its list if it is too long.
fn wrapped(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    // Commas in comments of chains and rules stay.
    let is_list = line.contains("elements = {") || line.starts_with(CONTINUED);
    for element in line.split_inclusive(if is_list { ", " } else { "\n" }) {
        if let Some(part) = parts.last_mut() {
            if part.is_empty() || part.chars().count() + element.trim_end().chars().count() <= WIDTH - INDENT.len() {
                part.push_str(element);
            } else {
                parts.push(format!("{CONTINUED}{element}"));
            }
        }
    }
    parts
}

/// Indents every line and removes trailing spaces.
fn indented(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(format!("{INDENT}{line}").trim_end());
        out.push('\n');
    }
    out
}
