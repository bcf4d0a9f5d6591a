//! `palisade trace`: the verdict on flows, from manifests alone, and why.
//!
//! It asks the reference evaluator, so its answer does not depend on the ruleset.

mod conntrack;
pub(crate) mod request;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use palisade_analysis::near::{Term, misses};
use palisade_analysis::words;
use palisade_policy::flow::{Flow, FlowError, Judgement, Verdict};
use palisade_policy::input::{Direction, Services, State};
use palisade_policy::reference::{Considered, Reference};
use serde::Serialize;

use crate::cli::{TraceArgs, TraceOutput};
use crate::ends::{Flows, Names};
use crate::output::{self, Failure, color};
use crate::source;

use request::{EXAMPLE, Request};

/// The exit status if a flow is denied; 0 means that all are allowed, 2 that one could not be judged.
const DENIED: u8 = 1;

/// Judges the flow or flows in the arguments. The exit status is 1 if one is denied.
pub(crate) fn run(arguments: &TraceArgs) -> Result<ExitCode, Failure> {
    let namespace = arguments.source.how.namespace.as_deref();
    let single = match (&arguments.flows, &arguments.conntrack) {
        (None, None) => Some(single_request(arguments, namespace).map_err(Failure::new)?),
        _ => None,
    };
    check_stdin(arguments)?;
    let census = arguments.conntrack.as_ref().map(|file| conntrack::read(file.as_deref())).transpose()?;
    let (state, services) = match &census {
        // Conntrack names no Service, and an agent may not list them.
        Some(_) => (source::read(&arguments.source)?, Services::default()),
        None => source::read_with_services(&arguments.source)?,
    };
    let facts = source::facts(arguments.source.allow_egress_to_own_node, &arguments.node_addresses);
    let names = Names { state: &state, services: &services, namespace };
    let judge = Judge { names, state: &state, reference: Reference::new(&state, &facts), form: arguments.output };
    if let Some(census) = census {
        return conntrack::judge(&judge, &census);
    }
    match (single, &arguments.flows) {
        (Some(request), _) => judge_one(&judge, &request),
        (None, Some(file)) => judge_file(&judge, file),
        (None, None) => Ok(ExitCode::SUCCESS),
    }
}

/// Judges the flow in the arguments: one for each pod that its ends stand for.
fn judge_one(judge: &Judge<'_>, request: &Request) -> Result<ExitCode, Failure> {
    let Flows { flows, meant } = judge.names.flows(request).map_err(Failure::new)?;
    if judge.form == TraceOutput::Text {
        meant.iter().try_for_each(|line| output::line(line))?;
    }
    let mut denied = false;
    for flow in &flows {
        let (considered, judgement) = judge.judge(flow).map_err(|error| Failure::new(error.to_string()))?;
        denied |= judgement.verdict == Verdict::Deny;
        output::line(&color::verdicts(&judge.answer(flow, &considered, &judgement)))?;
    }
    Ok(status(denied))
}

pub(crate) fn status(denied: bool) -> ExitCode {
    if denied { ExitCode::from(DENIED) } else { ExitCode::SUCCESS }
}

/// The flow in the arguments. Reports mistakes that do not depend on the objects before they are read.
fn single_request(arguments: &TraceArgs, namespace: Option<&str>) -> Result<Request, String> {
    let from = arguments.from.as_deref().ok_or("--from is missing")?;
    let to = arguments.to.as_deref().ok_or("--to is missing")?;
    let request = Request::of(from, to, &arguments.protocol, arguments.port.as_deref(), arguments.family.as_deref());
    Names::check(&request, namespace)?;
    Ok(request)
}

/// Standard input can be read only once.
fn check_stdin(arguments: &TraceArgs) -> Result<(), Failure> {
    let is_stdin = |path: &Path| path == Path::new("-");
    let flows = [
        ("--flows", arguments.flows.as_deref()),
        ("--conntrack", arguments.conntrack.as_ref().and_then(|file| file.as_deref())),
    ];
    let flag = flows.iter().find(|(_, file)| file.is_some_and(is_stdin)).map(|(flag, _)| flag);
    if let (Some(flag), true) = (flag, arguments.source.paths.iter().any(|path| is_stdin(path))) {
        return Err(Failure::usage(format!("both -f and {flag} read stdin")).hint("write one of them to a file"));
    }
    Ok(())
}

fn judge_file(judge: &Judge<'_>, file: &Path) -> Result<ExitCode, Failure> {
    let unread = |error: io::Error| Failure::caused(&format!("cannot read the flows of {}", file.display()), &error);
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(unread)?))
    };
    let mut out = BufWriter::new(io::stdout().lock());
    match judge.lines(input, &mut out, &mut io::stderr().lock(), |answer| color::verdicts(&answer).into_owned()) {
        Ok(Tally { failed: 0, denied, .. }) => Ok(status(denied > 0)),
        Ok(Tally { failed, lines, .. }) => Err(Failure::new(format!("{failed} of {lines} flows could not be judged"))),
        Err(Trouble::Reading(error)) => Err(unread(error)),
        // A closed pipe (`| head`) is not a failure.
        Err(Trouble::Writing(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Trouble::Writing(error)) => Err(Failure::caused("cannot write to stdout", &error)),
    }
}

/// The results of the lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    lines: usize,
    denied: usize,
    failed: usize,
}

/// Why the rest of a file of flows was not judged.
#[derive(Debug)]
enum Trouble {
    Reading(io::Error),
    Writing(io::Error),
}

/// The objects, and the output format.
struct Judge<'a> {
    names: Names<'a>,
    state: &'a State,
    reference: Reference<'a>,
    form: TraceOutput,
}

/// An answer in JSON; all but the reasons are an interface.
#[derive(Serialize)]
struct Answer {
    from: String,
    to: String,
    transport: String,
    verdict: String,
    egress: String,
    ingress: String,
    egress_reason: String,
    ingress_reason: String,
    /// The IPs, and how many entries conntrack has of the flow; only with --conntrack.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<usize>,
}

/// Printed instead of an answer if there is none.
#[derive(Serialize)]
struct NoAnswer {
    error: String,
}

impl Judge<'_> {
    /// Answers each line of input, in order. If a line cannot be judged, JSON has the error in its place, so that the
    /// n-th answer belongs to the n-th flow; in text, the error goes to stderr.
    fn lines(
        &self,
        mut input: impl BufRead,
        out: &mut impl Write,
        err: &mut impl Write,
        paint: impl Fn(String) -> String,
    ) -> Result<Tally, Trouble> {
        let mut tally = Tally::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(Trouble::Reading)? == 0 {
                out.flush().map_err(Trouble::Writing)?;
                return Ok(tally);
            }
            tally.lines += 1;
            match (self.line(&line), self.form) {
                (Ok((answer, verdict)), _) => {
                    tally.denied += usize::from(verdict == Verdict::Deny);
                    writeln!(out, "{}", paint(answer)).map_err(Trouble::Writing)?;
                }
                (Err(error), form) => {
                    tally.failed += 1;
                    match form {
                        TraceOutput::Json | TraceOutput::Yaml => {
                            let answer = self.structured(&NoAnswer { error });
                            writeln!(out, "{answer}").map_err(Trouble::Writing)?;
                        }
                        // If stderr is gone, the exit status still reports it.
                        TraceOutput::Text => drop(writeln!(err, "error: line {}: {error}", tally.lines)),
                    }
                }
            }
        }
    }

    /// The answer to a line. A Service or a workload is one flow for each pod, and the first that is denied decides.
    fn line(&self, line: &[u8]) -> Result<(String, Verdict), String> {
        let read = Request::read(line).and_then(|request| self.names.flows(&request));
        let Flows { flows, .. } = read.map_err(|error| format!("{error}; {EXAMPLE}"))?;
        let mut judged = Vec::new();
        for flow in &flows {
            let (considered, judgement) = self.judge(flow).map_err(|error| error.to_string())?;
            judged.push((flow, considered, judgement));
        }
        let denied = judged.iter().find(|(_, _, judgement)| judgement.verdict == Verdict::Deny);
        let (flow, considered, judgement) = denied.or_else(|| judged.first()).ok_or("it stands for no flow")?;
        let answer = match self.form {
            TraceOutput::Json | TraceOutput::Yaml => self.answer(flow, considered, judgement),
            TraceOutput::Text => words::line(flow, &considered.ends, judgement),
        };
        Ok((answer, judgement.verdict))
    }

    fn judge<'s>(&'s self, flow: &'s Flow) -> Result<(Considered<'s>, Judgement), FlowError> {
        let considered = self.reference.consider(flow)?;
        let judgement = considered.judgement();
        Ok((considered, judgement))
    }

    fn answer(&self, flow: &Flow, considered: &Considered<'_>, judgement: &Judgement) -> String {
        match self.form {
            TraceOutput::Text => {
                let [egress, ingress] = words::reasons(self.state, flow, considered, judgement);
                format!(
                    "{}\n  egress   {}: {egress}{}\n  ingress  {}: {ingress}{}",
                    words::line(flow, &considered.ends, judgement),
                    judgement.egress.verdict,
                    nearest(considered, Direction::Egress),
                    judgement.ingress.verdict,
                    nearest(considered, Direction::Ingress),
                )
            }
            TraceOutput::Json | TraceOutput::Yaml => self.structured(&self.fields(flow, considered, judgement)),
        }
    }

    /// An answer for machines, without its last line feed.
    fn structured(&self, value: &impl Serialize) -> String {
        match self.form {
            TraceOutput::Yaml => format!("---\n{}", output::yaml(value).trim_end()),
            // A struct of strings can always be serialized.
            _ => serde_json::to_string(value).unwrap_or_default(),
        }
    }

    fn fields(&self, flow: &Flow, considered: &Considered<'_>, judgement: &Judgement) -> Answer {
        let [egress_reason, ingress_reason] = words::reasons(self.state, flow, considered, judgement);
        Answer {
            from: flow.from.to_string(),
            to: flow.to.to_string(),
            transport: words::near::transport(flow.transport),
            verdict: judgement.verdict.to_string(),
            egress: judgement.egress.verdict.to_string(),
            ingress: judgement.ingress.verdict.to_string(),
            egress_reason,
            ingress_reason,
            from_address: None,
            to_address: None,
            entries: None,
        }
    }
}

/// The rule that misses by one term, on a line of its own, if one does.
fn nearest(considered: &Considered<'_>, direction: Direction) -> String {
    let found = misses(considered.side(direction));
    let miss = found.first().filter(|miss| miss.term != Term::NewRule);
    miss.map(|miss| format!("\n           nearest miss: {}", words::near::miss(miss))).unwrap_or_default()
}
