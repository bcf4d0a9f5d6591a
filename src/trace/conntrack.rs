//! `palisade trace --conntrack`: the verdict on the flows that conntrack has.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use palisade_dataplane::conntrack::{self, Census, Tracked};
use palisade_policy::flow::{Endpoint, Flow, Transport, Verdict};
use palisade_policy::input::{Family, NamespacedName, Protocol, State};

use super::{InJson, Judge, status};
use crate::cli::TraceOutput;
use crate::output::{self, Failure, color};

/// The protocols' numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: [u8; 2] = [1, 58];

/// The flows, from a file, stdin or the kernel.
pub(super) fn read(file: Option<&Path>) -> Result<Census, Failure> {
    let Some(file) = file else {
        return conntrack::census().map_err(|error| {
            Failure::caused("cannot read conntrack", &error).hint(
                "this needs CAP_NET_ADMIN on the node; elsewhere, --conntrack=FILE reads what conntrack -L printed",
            )
        });
    };
    let unread = |error: io::Error| Failure::caused(&format!("cannot read the flows of {}", file.display()), &error);
    if file == Path::new("-") {
        Census::read(io::stdin().lock()).map_err(unread)
    } else {
        Census::read(BufReader::new(File::open(file).map_err(unread)?)).map_err(unread)
    }
}

/// The flows, by what became of them.
#[derive(Default)]
struct Found {
    denied: Vec<String>,
    allowed: Vec<String>,
    /// Entries without a pod at either end, which no policy concerns.
    elsewhere: usize,
    /// Entries of protocols that policies do not know.
    foreign: usize,
    /// Entries that the evaluator refused.
    refused: usize,
}

/// Judges each flow once: the denied ones come first. A remark on stderr has the entries that were not judged.
pub(super) fn judge(judge: &Judge<'_>, census: &Census) -> Result<ExitCode, Failure> {
    let owners = Owners::new(judge.state);
    let mut found = Found::default();
    for (tracked, entries) in &census.flows {
        let [from, to] = [tracked.client, tracked.server].map(|ip| owners.end(ip));
        let is_pods = |end: &Endpoint| match end {
            Endpoint::Pod(_) => true,
            Endpoint::Address(ip) => owners.0.contains_key(ip),
            Endpoint::Node(_) => false,
        };
        if !is_pods(&from) && !is_pods(&to) {
            found.elsewhere += entries;
            continue;
        }
        let Some(transport) = transport(tracked) else {
            found.foreign += entries;
            continue;
        };
        let flow = Flow { from, to, transport, family: Some(Family::of(tracked.client)) };
        match answer(judge, &flow, tracked, *entries) {
            Some((Verdict::Deny, answer)) => found.denied.push(answer),
            Some((Verdict::Allow, answer)) => found.allowed.push(answer),
            None => found.refused += entries,
        }
    }
    print(&found)?;
    output::note(&counts(&found, census));
    if census.malformed + census.beyond + found.refused > 0 || census.incomplete {
        return Err(Failure::new("not all flows could be judged"));
    }
    Ok(status(!found.denied.is_empty()))
}

fn transport(tracked: &Tracked) -> Option<Transport> {
    let protocol = match tracked.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        SCTP => Protocol::Sctp,
        icmp if ICMP.contains(&icmp) => return Some(Transport::Portless),
        _ => return None,
    };
    Some(Transport::Port(protocol, tracked.port?))
}

fn answer(judge: &Judge<'_>, flow: &Flow, tracked: &Tracked, entries: usize) -> Option<(Verdict, String)> {
    let judged = judge.judge(flow).ok()?;
    let text = match judge.form {
        TraceOutput::Text => {
            let count = number(entries, "entry", "entries");
            format!("{} ({count})", color::verdicts(&judged.line(flow)))
        }
        _ => judge.structured(&InJson {
            from_address: Some(tracked.client),
            to_address: Some(tracked.server),
            entries: Some(entries),
            ..judge.fields(flow, &judged)
        }),
    };
    Some((judged.verdict(), text))
}

fn print(found: &Found) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut lines = found.denied.iter().chain(&found.allowed);
    let written = lines.try_for_each(|line| writeln!(out, "{line}"));
    match written.and_then(|()| out.flush()) {
        // A closed pipe (`| head`) is not a failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("cannot write to stdout", &error))
        }
        _ => Ok(()),
    }
}

/// `9 entries: 4 flows judged, 1 denied; not judged: 3 entries without a pod at either end`.
fn counts(found: &Found, census: &Census) -> String {
    let judged = found.denied.len() + found.allowed.len();
    let left = [
        (found.elsewhere, "without a pod at either end"),
        (found.foreign, "of a protocol that is not TCP, UDP, SCTP or ICMP"),
        (found.refused, "whose ends contradict the objects"),
        (census.malformed, "that are no conntrack entries"),
        (census.beyond, "of further flows: there are too many"),
    ];
    let left: Vec<_> =
        left.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    let left = if left.is_empty() { String::new() } else { format!("; not judged: {}", left.join(", ")) };
    let lost = if census.incomplete { "; the kernel's list was never complete, run it again" } else { "" };
    let (entries, judged) = (number(census.entries, "entry", "entries"), number(judged, "flow", "flows"));
    format!("{entries}: {judged} judged, {} denied{left}{lost}", found.denied.len())
}

fn number(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The pods that have an IP.
struct Owners<'a>(HashMap<IpAddr, Vec<&'a NamespacedName>>);

impl<'a> Owners<'a> {
    fn new(state: &'a State) -> Self {
        let mut owners: HashMap<IpAddr, Vec<_>> = HashMap::new();
        for pod in state.every_pod() {
            pod.claims().for_each(|ip| owners.entry(ip).or_default().push(&pod.key));
        }
        Self(owners)
    }

    /// The pod that has an IP, or the IP if none has it or several do.
    fn end(&self, ip: IpAddr) -> Endpoint {
        match self.0.get(&ip).map(Vec::as_slice) {
            Some([pod]) => Endpoint::Pod((*pod).clone()),
            _ => Endpoint::Address(ip),
        }
    }
}
