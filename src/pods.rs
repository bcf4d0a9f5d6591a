//! `palisade pods`: pods, and the policies that isolate them.

use std::fmt::Write as _;

use palisade_analysis::reach::Reach;
use palisade_policy::flow::NodeFacts;
use palisade_policy::input::{Direction, LabelSelector, NamespacedName, Pod};
use serde_json::{Value, json};

use crate::cli::{PodsArgs, PodsOutput};
use crate::output::{self, Failure};
use crate::source;

/// How many policies a line of the table names; `-o wide` names all.
const NAMED: usize = 3;

/// A pod, and the policies that isolate it for egress and for ingress.
struct Line<'a> {
    pod: &'a Pod,
    policies: [Vec<NamespacedName>; 2],
}

impl Line<'_> {
    /// Whether some direction is open.
    fn is_open(&self) -> bool {
        self.policies.iter().any(Vec::is_empty)
    }

    /// Why no policy selects the pod, if none can.
    fn exempt(&self) -> Option<&'static str> {
        match self.pod {
            pod if pod.host_network => Some("host network"),
            pod if pod.phase.is_terminal() => Some("finished"),
            _ => None,
        }
    }
}

/// Lists pods.
pub(crate) fn run(arguments: &PodsArgs) -> Result<(), Failure> {
    let selector: LabelSelector = match &arguments.selector {
        Some(text) => text.parse().map_err(|error| Failure::usage(format!("--selector: {error}")))?,
        None => LabelSelector::everything(),
    };
    let state = source::read(&arguments.source)?;
    let facts = NodeFacts::default();
    let reach = Reach::new(&state, &facts);
    let namespace = arguments.source.how.namespace.as_deref();
    let is_asked = |pod: &&Pod| namespace.is_none_or(|own| *pod.key.namespace == *own) && selector.selects(&pod.labels);
    let policies = |pod, direction| {
        let isolating = reach.isolating(pod, direction).into_iter();
        isolating.map(|policy| policy.key.clone()).collect()
    };
    let line = |pod| Line { pod, policies: Direction::ALL.map(|direction| policies(pod, direction)) };
    let lines = state.every_pod().filter(is_asked).map(line);
    let lines: Vec<_> = lines.filter(|line| !arguments.open || (line.is_open() && line.exempt().is_none())).collect();
    match arguments.output {
        PodsOutput::Json => output::line(&lines.iter().map(as_json).collect::<Value>().to_string()),
        PodsOutput::Yaml => output::block(&output::yaml(&lines.iter().map(as_json).collect::<Value>())),
        form => {
            output::block(&table(&lines, form == PodsOutput::Wide))?;
            output::note(&counts(&lines));
            Ok(())
        }
    }
}

fn as_json(line: &Line<'_>) -> Value {
    let [egress, ingress] =
        line.policies.each_ref().map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>());
    json!({
        "namespace": &*line.pod.key.namespace, "pod": &*line.pod.key.name, "node": line.pod.node.as_deref(),
        "addresses": line.pod.addresses.iter().collect::<Vec<_>>(),
        "egress": egress, "ingress": ingress, "exempt": line.exempt(),
    })
}

fn table(lines: &[Line<'_>], wide: bool) -> String {
    let mut rows = vec![["NAMESPACE", "POD", "EGRESS", "INGRESS", "NODE", "IPS"].map(ToOwned::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        let [egress, ingress] = line.policies.each_ref().map(|keys| match line.exempt() {
            Some(why) => format!("({why})"),
            None => names(keys, wide),
        });
        let pod = line.pod;
        let addresses: Vec<_> = pod.addresses.iter().map(|address| address.to_string()).collect();
        let node = pod.node.as_deref().unwrap_or("-").to_owned();
        vec![pod.key.namespace.to_string(), pod.key.name.to_string(), egress, ingress, node, addresses.join(",")]
    }));
    if !wide {
        rows.iter_mut().for_each(|row| row.truncate(4));
    }
    output::columns(&rows)
}

/// The names of policies, without their namespace, which is the pod's; `open` if there is none.
fn names(keys: &[NamespacedName], all: bool) -> String {
    if keys.is_empty() {
        return "open".to_owned();
    }
    let shown = if all { keys.len() } else { NAMED };
    let mut text = keys.iter().take(shown).map(|key| &*key.name).collect::<Vec<_>>().join(",");
    if keys.len() > shown {
        // Writing to a String cannot fail.
        _ = write!(text, "+{}", keys.len() - shown);
    }
    text
}

fn counts(lines: &[Line<'_>]) -> String {
    let judged: Vec<_> = lines.iter().filter(|line| line.exempt().is_none()).collect();
    let open =
        |direction: usize| judged.iter().filter(|line| line.policies.get(direction).is_some_and(Vec::is_empty)).count();
    let pods = if lines.len() == 1 { "pod" } else { "pods" };
    format!("{} {pods}: {} open for egress, {} open for ingress", lines.len(), open(0), open(1))
}
