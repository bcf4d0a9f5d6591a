//! `palisade trace`: the verdict on flows, from manifests alone, and why.
//!
//! It asks the reference evaluator, so its answer does not depend on the ruleset.

mod request;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use palisade_analysis::words;
use palisade_policy::flow::{Flow, FlowError, Judgement, NodeFacts};
use palisade_policy::index::set_aside;
use palisade_policy::input::State;
use palisade_policy::reference::{Considered, Reference};
use serde::Serialize;

use crate::cli::{TraceArgs, TraceOutput};
use crate::output::{self, Failure};
use crate::render;

use request::Request;

/// Judges the flow or flows in the arguments.
pub(crate) fn run(arguments: &TraceArgs) -> Result<(), Failure> {
    let single = match &arguments.flows {
        Some(_) => None,
        None => Some(single_flow(arguments).map_err(Failure::usage)?),
    };
    check_stdin(arguments)?;
    let mut state = render::read_with_workloads(&arguments.objects)?;
    // As an agent with the default budget does; the reason of a verdict says so too.
    for (policy, why) in set_aside(&mut state) {
        output::warn(&format!("policy {policy} {why}"));
    }
    let facts = facts(arguments);
    let namespace = arguments.objects.how.namespace.as_deref();
    let judge = Judge { namespace, state: &state, reference: Reference::new(&state, &facts), form: arguments.output };
    match (single, &arguments.flows) {
        (Some(flow), _) => {
            let (considered, judgement) = judge.judge(&flow).map_err(|error| Failure::new(error.to_string()))?;
            output::line(&judge.answer(&flow, &considered, &judgement))
        }
        (None, Some(file)) => judge_file(&judge, file),
        (None, None) => Ok(()),
    }
}

fn single_flow(arguments: &TraceArgs) -> Result<Flow, String> {
    Request {
        from: arguments.from.clone().ok_or("--from is missing")?,
        to: arguments.to.clone().ok_or("--to is missing")?,
        protocol: Some(arguments.protocol.clone()),
        port: arguments.port.map(Into::into),
        family: arguments.family.clone().map(Into::into),
    }
    .flow(arguments.objects.how.namespace.as_deref())
}

/// Standard input can be read only once.
fn check_stdin(arguments: &TraceArgs) -> Result<(), Failure> {
    let is_stdin = |path: &Path| path == Path::new("-");
    let flows = arguments.flows.as_deref().is_some_and(is_stdin);
    if flows && arguments.objects.paths.iter().any(|path| is_stdin(path)) {
        return Err(Failure::usage("both -f and --flows are to be read from stdin").hint("write one of them to a file"));
    }
    Ok(())
}

fn facts(arguments: &TraceArgs) -> NodeFacts {
    let allow_egress_to_own_node = arguments.objects.allow_egress_to_own_node;
    let mut facts = NodeFacts { allow_egress_to_own_node, ..NodeFacts::default() };
    for (node, address) in &arguments.node_addresses {
        facts.addresses.entry(node.as_str().into()).or_default().insert(*address);
    }
    facts
}

fn judge_file(judge: &Judge<'_>, file: &Path) -> Result<(), Failure> {
    let unread = |error: io::Error| Failure::caused(&format!("cannot read the flows of {}", file.display()), &error);
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(unread)?))
    };
    let mut out = BufWriter::new(io::stdout().lock());
    match judge.lines(input, &mut out) {
        Err(Trouble::Reading(error)) => Err(unread(error)),
        // A closed pipe (`| head`) is not a failure.
        Err(Trouble::Writing(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("cannot write to stdout", &error))
        }
        Err(Trouble::Writing(_)) | Ok(()) => Ok(()),
    }
}

/// Why a file of flows could not be judged to its end.
#[derive(Debug)]
enum Trouble {
    Reading(io::Error),
    Writing(io::Error),
}

/// The objects, and the output format.
struct Judge<'a> {
    /// Of pods that are named without one.
    namespace: Option<&'a str>,
    state: &'a State,
    reference: Reference<'a>,
    form: TraceOutput,
}

/// An answer in JSON; the first three fields are an interface.
#[derive(Serialize)]
struct Answer {
    verdict: String,
    egress: String,
    ingress: String,
    egress_reason: String,
    ingress_reason: String,
}

/// Printed instead of an answer if there is none.
#[derive(Serialize)]
struct NoAnswer {
    error: String,
}

impl Judge<'_> {
    /// One line of output for each line of input, in order, whatever the line is.
    fn lines(&self, mut input: impl BufRead, out: &mut impl Write) -> Result<(), Trouble> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(Trouble::Reading)? == 0 {
                return out.flush().map_err(Trouble::Writing);
            }
            let answer = self.line(&line).unwrap_or_else(|error| match self.form {
                TraceOutput::Json => json(&NoAnswer { error }),
                TraceOutput::Text => format!("error: {error}"),
            });
            writeln!(out, "{answer}").map_err(Trouble::Writing)?;
        }
    }

    fn line(&self, line: &[u8]) -> Result<String, String> {
        let flow = Request::read(line)?.flow(self.namespace)?;
        let (considered, judgement) = self.judge(&flow).map_err(|error| error.to_string())?;
        Ok(match self.form {
            TraceOutput::Json => self.answer(&flow, &considered, &judgement),
            TraceOutput::Text => words::line(&flow, &considered.ends, &judgement),
        })
    }

    fn judge<'s>(&'s self, flow: &'s Flow) -> Result<(Considered<'s>, Judgement), FlowError> {
        let considered = self.reference.consider(flow)?;
        let judgement = considered.judgement();
        Ok((considered, judgement))
    }

    fn answer(&self, flow: &Flow, considered: &Considered<'_>, judgement: &Judgement) -> String {
        let [egress, ingress] = words::reasons(self.state, flow, considered, judgement);
        match self.form {
            TraceOutput::Text => format!(
                "{}\n  egress   {}: {egress}\n  ingress  {}: {ingress}",
                words::line(flow, &considered.ends, judgement),
                judgement.egress.verdict,
                judgement.ingress.verdict,
            ),
            TraceOutput::Json => json(&Answer {
                verdict: judgement.verdict.to_string(),
                egress: judgement.egress.verdict.to_string(),
                ingress: judgement.ingress.verdict.to_string(),
                egress_reason: egress,
                ingress_reason: ingress,
            }),
        }
    }
}

/// Texts in a struct always have a form in JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
