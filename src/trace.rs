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
use palisade_analysis::untracked::{NOTE, may_be_dropped};
use palisade_analysis::words;
use palisade_policy::flow::{Flow, Judgement, Verdict};
use palisade_policy::input::{Direction, Services, State};
use palisade_policy::reference::{Considered, Reference};
use serde::Serialize;

use crate::cli::{TraceArgs, TraceOutput};
use crate::ends::{Flows, Names};
use crate::output::{self, Failure, color};
use crate::source;
use crate::untracked::{Answer, Assumption, OneWay, UNTRACKED};

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
    let translates = arguments.untracked.is_none();
    let names = Names { state: &state, services: &services, namespace, translates };
    let reference = Reference::new(&state, &facts);
    let untracked = arguments.untracked.map(|how| Assumption::new(how, &state, &services, &reference, &facts));
    let judge = Judge { names, state: &state, reference: &reference, untracked, form: arguments.output };
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
        let judged = judge.judge(flow).map_err(Failure::new)?;
        denied |= judged.verdict() == Verdict::Deny;
        output::line(&color::verdicts(&judge.answer(flow, &judged)))?;
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
    reference: &'a Reference<'a>,
    untracked: Option<Assumption<'a>>,
    form: TraceOutput,
}

/// A judged flow.
struct Judged<'s> {
    considered: Considered<'s>,
    judgement: Judgement,
    /// If its packets are untracked.
    untracked: Option<Answer>,
}

impl Judged<'_> {
    fn verdict(&self) -> Verdict {
        self.untracked.as_ref().map_or(self.judgement.verdict, Answer::verdict)
    }

    fn line(&self, flow: &Flow) -> String {
        let judgement = Judgement { verdict: self.verdict(), ..self.judgement.clone() };
        let line = words::line(flow, &self.considered.ends, &judgement);
        if self.untracked.is_some() { line + UNTRACKED } else { line }
    }
}

/// An answer in JSON; all but the reasons and the note are an interface.
#[derive(Serialize)]
struct InJson {
    from: String,
    to: String,
    transport: String,
    verdict: String,
    egress: String,
    ingress: String,
    egress_reason: String,
    ingress_reason: String,
    /// With `--untracked`.
    #[serde(flatten)]
    reply: Option<Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    /// The IPs, and how many entries conntrack has of the flow; only with --conntrack.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<usize>,
}

/// The verdict on the reply, which is judged like a request if conntrack tracks neither.
#[derive(Serialize)]
struct Reply {
    reply: String,
    reply_reason: String,
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
        let mut all = Vec::new();
        for flow in &flows {
            all.push((flow, self.judge(flow)?));
        }
        let denied = all.iter().find(|(_, judged)| judged.verdict() == Verdict::Deny);
        let (flow, judged) = denied.or_else(|| all.first()).ok_or("it stands for no flow")?;
        let answer = match self.form {
            TraceOutput::Json | TraceOutput::Yaml => self.answer(flow, judged),
            TraceOutput::Text => judged.line(flow),
        };
        Ok((answer, judged.verdict()))
    }

    fn judge<'s>(&'s self, flow: &'s Flow) -> Result<Judged<'s>, String> {
        let considered = self.reference.consider(flow).map_err(|error| error.to_string())?;
        let judgement = considered.judgement();
        let untracked = self.untracked.as_ref().map(|assumed| assumed.answer(flow, &considered, &judgement));
        Ok(Judged { untracked: untracked.transpose()?, considered, judgement })
    }

    fn answer(&self, flow: &Flow, judged: &Judged<'_>) -> String {
        match self.form {
            TraceOutput::Text => self.text(flow, judged),
            TraceOutput::Json | TraceOutput::Yaml => self.structured(&self.fields(flow, judged)),
        }
    }

    fn text(&self, flow: &Flow, judged: &Judged<'_>) -> String {
        let Judged { considered, untracked, .. } = judged;
        let [egress, ingress] = self.directions(flow, judged);
        let nearest = |direction| if untracked.is_none() { nearest(considered, direction) } else { String::new() };
        let reply = untracked.as_ref().map(|answer| &answer.reply);
        let more = reply.map(|reply| format!("\n  reply    {}: {}", reply.verdict, reply.reason));
        let note = || self.note(flow, judged).map(|note| format!("\n  note: {note}"));
        format!(
            "{}\n  egress   {}: {}{}\n  ingress  {}: {}{}{}",
            judged.line(flow),
            egress.verdict,
            egress.reason,
            nearest(Direction::Egress),
            ingress.verdict,
            ingress.reason,
            nearest(Direction::Ingress),
            more.or_else(note).unwrap_or_default(),
        )
    }

    /// Egress, then ingress.
    fn directions(&self, flow: &Flow, Judged { considered, judgement, untracked }: &Judged<'_>) -> [OneWay; 2] {
        if let Some(Answer { request, .. }) = untracked {
            return request.clone();
        }
        let [egress, ingress] = words::reasons(self.state, flow, considered, judgement);
        let one_way = |reason, verdict| OneWay { verdict, reason };
        [one_way(egress, judgement.egress.verdict), one_way(ingress, judgement.ingress.verdict)]
    }

    fn note(&self, flow: &Flow, Judged { considered, judgement, untracked }: &Judged<'_>) -> Option<&'static str> {
        (untracked.is_none() && may_be_dropped(self.state, flow, considered, judgement)).then_some(NOTE)
    }

    /// An answer for machines, without its last line feed.
    fn structured(&self, value: &impl Serialize) -> String {
        match self.form {
            TraceOutput::Yaml => format!("---\n{}", output::yaml(value).trim_end()),
            // A struct of strings can always be serialized.
            _ => serde_json::to_string(value).unwrap_or_default(),
        }
    }

    fn fields(&self, flow: &Flow, judged: &Judged<'_>) -> InJson {
        let [egress, ingress] = self.directions(flow, judged);
        let reply = judged.untracked.as_ref().map(|answer| &answer.reply);
        InJson {
            from: flow.from.to_string(),
            to: flow.to.to_string(),
            transport: words::near::transport(flow.transport),
            verdict: judged.verdict().to_string(),
            egress: egress.verdict.to_string(),
            ingress: ingress.verdict.to_string(),
            egress_reason: egress.reason,
            ingress_reason: ingress.reason,
            reply: reply.map(|reply| Reply { reply: reply.verdict.to_string(), reply_reason: reply.reason.clone() }),
            note: self.note(flow, judged),
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
