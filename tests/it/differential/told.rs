//! `palisade explain flow` tells of generated flows what their packets have just met: the verdict, and where a node
//! judges the flow, a chain that its kernel has, with the rule.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;

use palisade_dataplane::table;
use palisade_policy::flow::{Flow, Verdict};
use palisade_policy::input::{Labels, Namespace, State};
use palisade_ruleset::text::Listing;
use palisade_testkit::generate::{Case, flow_line, manifests};
use proptest::prelude::*;
use serde_json::Value;

use super::{Bed, Tally, Trial};
use crate::cli::place::{PALISADE, Place};

/// The most flows of a case that are explained: each is a run of the program.
const MOST: usize = 80;
/// The row of the tally.
pub(super) const EXPLAINED: &str = "explained";
/// The least that a whole run explains.
pub(super) const LEAST: usize = 1_000;

impl Bed {
    /// Explains some of the flows, all of whose packets got their verdict. Returns how many.
    pub(super) fn told(&mut self, case: &Case, trials: &[Trial], tally: &mut Tally) -> Result<usize, TestCaseError> {
        if !can_be_written(case) {
            return Ok(0);
        }
        let place = Place::new("told", &[("objects.yaml", &manifests(&case.state))]);
        let asked: Vec<_> = trials.iter().filter(|trial| !trial.path.ends_with("by Service")).take(MOST).collect();
        let tables = self.listings();
        let flags = flags(case);
        let answers: Vec<_> = thread::scope(|scope| {
            let halves = asked.chunks(asked.len().div_ceil(2).max(1));
            let run =
                |half: &[&Trial]| half.iter().map(|trial| explain(&place, &trial.flow, &flags)).collect::<Vec<_>>();
            let threads: Vec<_> = halves.map(|half| scope.spawn(move || run(half))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        for (trial, answer) in asked.iter().zip(answers) {
            let line = flow_line(&trial.flow);
            let told = &answer["flows"][0];
            let allowed = trial.judgement.verdict == Verdict::Allow;
            prop_assert_eq!(&told["verdict"], if allowed { "allow" } else { "deny" }, "{}: {}", line, answer);
            let (count, through) = tally.entry(EXPLAINED.to_owned()).or_default();
            (*count, *through) = (*count + 1, *through + usize::from(allowed));
            for direction in ["egress", "ingress"] {
                let node = &told[direction]["node"];
                let Some(listing) = node["name"].as_str().and_then(|name| tables.get(name)) else { continue };
                let chain = format!("chain {} {{", node["chain"].as_str().unwrap());
                let found = listing.split_once(&chain).map(|(_, rest)| rest.split('}').next().unwrap_or_default());
                prop_assert!(found.is_some(), "{}: the kernel has no {}:\n{}", line, chain, listing);
                let rule = node["rule"].as_str();
                let has_rule = |rules: &str| rule.is_none_or(|rule| rules.lines().any(|own| own.trim() == rule));
                prop_assert!(found.is_some_and(has_rule), "{}: {:?} is not in {}", line, rule, chain);
                let (count, through) = tally.entry("found in the kernel".to_owned()).or_default();
                (*count, *through) = (*count + 1, *through + usize::from(rule.is_some()));
            }
        }
        Ok(asked.len())
    }

    /// Each node's table, as `palisade list` prints it.
    fn listings(&self) -> BTreeMap<String, String> {
        let of_node = |enforcer: &crate::common::driven::Driven| {
            let shown = enforcer.node.run(table::show).unwrap().unwrap().unwrap();
            let listing = Listing { ruleset: &shown.found.ruleset, named: &shown.named, rules: &shown.rules };
            (enforcer.node.name().to_owned(), listing.whole())
        };
        self.enforcers.iter().map(of_node).collect()
    }
}

/// Every other case as manifests can say it: without what the source has dropped and is still in force, and without
/// nodes' pod ranges; and with every namespace that objects mention.
pub(super) fn written(mut case: Case) -> Case {
    if !case.flows.len().is_multiple_of(2) {
        return case;
    }
    case.facts.pod_ranges.clear();
    let State { tombstones, departing, namespaces, pods, policies, .. } = &mut case.state;
    tombstones.clear();
    departing.clear();
    for key in pods.keys().chain(policies.keys()) {
        namespaces.entry(key.namespace.clone()).or_insert_with(|| Namespace::new(key.namespace.clone(), Labels::new()));
    }
    case
}

fn can_be_written(case: &Case) -> bool {
    let State { tombstones, departing, namespaces, pods, policies, .. } = &case.state;
    let mut keys = pods.keys().chain(policies.keys());
    let is_complete = tombstones.is_empty() && departing.is_empty() && case.facts.pod_ranges.is_empty();
    is_complete && keys.all(|key| namespaces.contains_key(&key.namespace))
}

fn flags(case: &Case) -> String {
    let own = if case.facts.allow_egress_to_own_node { " --allow-egress-to-own-node" } else { "" };
    let addresses = case.facts.addresses.iter().flat_map(|(node, all)| all.iter().map(move |one| (node, one)));
    addresses.fold(own.to_owned(), |flags, (node, address)| format!("{flags} --node-address {node}={address}"))
}

fn explain(place: &Place, flow: &Flow, flags: &str) -> Value {
    let line: Value = serde_json::from_str(&flow_line(flow)).unwrap();
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let port = line["port"].as_u64().map(|port| port.to_string()).unwrap_or_default();
    let family = line["family"].as_str().map(|family| format!("--family {family}")).unwrap_or_default();
    let arguments = format!(
        "explain flow -f objects.yaml {} {} {port} --protocol {} {family} -o json{flags}",
        text("from"),
        text("to"),
        text("protocol"),
    );
    let ran = Command::new(PALISADE).args(arguments.split_whitespace()).current_dir(&place.0).output().unwrap();
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}
