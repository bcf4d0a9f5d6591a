//! `palisade explain flow` and the kernel tell the same story, on real packets of generated clusters.
//!
//! The program reads a cluster from a file, and the lab's nodes enforce the same file. For every flow:
//!
//! - the packet arrives if and only if `explain` says that it is allowed;
//! - the chain that `explain` names on a node is in the kernel's table, and counts exactly the flows that `explain` says
//!   it denies; the rule that `explain` names is in that chain, and counts exactly the flows that it allows;
//! - if `explain` names a change that would allow a denied flow, the packet arrives once the file is edited as its words
//!   say, and nothing else.
//!
//! Seen to fail when: `explain` named the first rule with the policy's name, not the one that the packet meets; it looked
//! for the chain of egress among those of ingress; it named an `except` at the rule's position; its change added another
//! port.

mod table;
mod words;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use palisade_policy::flow::{Flow, NodeFacts, Transport, Verdict};
use palisade_policy::input::{Change, State};
use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, arb_case_with, flow_line, objects};
use palisade_testkit::trials::Trials;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Bed, Tally, Trial};
use table::Counted;

/// Explained flows in a test run.
const FLOWS: usize = 1_000;
/// The most flows of a cluster.
const MOST: usize = 40;
/// The most changes of a cluster that are tried; each takes a commit on every node.
const CHANGES: usize = 16;

/// The least kinds of changes that a run follows.
const KINDS: usize = 5;

/// A cluster as the program reads it.
struct Read {
    file: PathBuf,
    objects: Vec<Value>,
    state: State,
    facts: NodeFacts,
}

/// The program's answer on a flow.
struct Story {
    verdict: Verdict,
    /// Egress, then ingress.
    directions: [Value; 2],
}

#[test]
fn explain_and_the_kernel_tell_the_same_story() {
    let bed = RefCell::new(Bed::new());
    let tally = RefCell::new(Tally::new());
    let check = |case: &Case| bed.borrow_mut().explain(case, &mut tally.borrow_mut());
    Trials::of("explained flows", "PALISADE_EXPLAINED", FLOWS).run_alone(&arb_case_with(MOST..MOST * 2), check);
    for (what, (sent, allowed)) in tally.borrow().iter() {
        println!("{sent:6} of {what}, {allowed:6} arrived");
    }
    let followed = words::KINDS.iter().filter(|kind| tally.borrow().contains_key(**kind)).count();
    assert!(followed >= KINDS, "only {followed} kinds of changes were followed");
}

impl Bed {
    /// Compares the stories of a cluster's flows with their packets. Returns the number of flows.
    fn explain(&mut self, case: &Case, tally: &mut Tally) -> Result<usize, TestCaseError> {
        let read = Read::new(&self.with_all_addresses(case));
        self.enforcers.iter_mut().for_each(super::Driven::delete_table);
        self.enforce(&read.state, &read.facts);
        self.ranges = Vec::new();
        let reference = Reference::new(&read.state, &read.facts);
        let trials: Vec<_> = case.flows.iter().filter_map(|flow| self.trial(&reference, flow)).take(MOST).collect();
        let stories: Vec<_> = trials.iter().map(|trial| read.story(&trial.flow)).collect();

        self.enforcers.iter().for_each(|enforcer| table::count_every_rule(&enforcer.node));
        let shots: Vec<_> = trials.iter().map(|trial| trial.shot.clone()).collect();
        let before = self.dropped();
        let mut arrived = self.lab.shoot(&shots).unwrap();
        self.shoot_lost_again(&trials, &mut arrived, before);
        for ((trial, story), arrived) in trials.iter().zip(&stories).zip(arrived) {
            let same = arrived == (story.verdict == Verdict::Allow);
            prop_assert!(same, "{}: {:?}, but arrived: {arrived}", flow_line(&trial.flow), story.directions);
            add(tally, "flows", arrived);
        }
        self.compare_places(&trials, &stories, tally)?;
        self.follow_changes(&read, &trials, &stories, tally)?;
        Ok(trials.len())
    }

    /// Compares the named chains and rules with the kernel's counters.
    fn compare_places(&self, trials: &[Trial], stories: &[Story], tally: &mut Tally) -> Result<(), TestCaseError> {
        let tables: BTreeMap<_, _> =
            self.enforcers.iter().map(|enforcer| (enforcer.node.name(), table::counted(&enforcer.node))).collect();
        let mut expected: BTreeMap<(&str, &str, &str), Vec<&Flow>> = BTreeMap::new();
        for (trial, story) in trials.iter().zip(stories) {
            for direction in &story.directions {
                let place = &direction["node"];
                let denied = direction["verdict"] == "deny";
                let text = |field: &str| place[field].as_str().unwrap_or_default();
                if !place.is_null() {
                    let chains = tables.get(text("name"));
                    let is_there = chains.is_some_and(|chains| chains.contains_key(text("chain")));
                    prop_assert!(is_there, "{}: no chain for {place}", flow_line(&trial.flow));
                    let by_rule = direction["reason"].as_str().unwrap().ends_with("allows it");
                    prop_assert_eq!(place["rule"].is_string(), by_rule, "{}: {}", flow_line(&trial.flow), direction);
                    if denied || place["rule"].is_string() {
                        let key = (text("name"), text("chain"), text("rule"));
                        expected.entry(key).or_default().push(&trial.flow);
                        add(tally, if denied { "chains of denied flows" } else { "rules of allowed flows" }, !denied);
                    } else {
                        add(tally, "flows that are allowed by no rule", true);
                    }
                }
                // Nothing after the first denial sees the packet.
                if denied {
                    break;
                }
            }
        }
        for ((node, chain, rule), flows) in &expected {
            let Counted { rules, dropped } = &tables[node][*chain];
            let counted = if rule.is_empty() { Some(dropped) } else { rules.get(*rule) };
            let flows: Vec<_> = flows.iter().map(|flow| flow_line(flow)).collect();
            prop_assert_eq!(counted, Some(&flows.len()), "{} {} {:?} {:?}", node, chain, rule, flows);
        }
        Ok(())
    }

    /// Edits the file as the stories of denied flows say, one flow at a time, and sends the packet again.
    fn follow_changes(
        &mut self,
        read: &Read,
        trials: &[Trial],
        stories: &[Story],
        tally: &mut Tally,
    ) -> Result<(), TestCaseError> {
        let mut wanted: Vec<(Vec<&str>, Vec<&Trial>)> = Vec::new();
        for (trial, story) in trials.iter().zip(stories) {
            let changes = story.changes();
            match wanted.iter_mut().find(|(known, _)| *known == changes) {
                _ if changes.is_empty() => {}
                Some((_, trials)) => trials.push(trial),
                None => wanted.push((changes, vec![trial])),
            }
        }
        let mut current = read.state.clone();
        for (changes, trials) in wanted.into_iter().take(CHANGES) {
            let edited = read.edited(&changes);
            let policies = edited.policies.values().filter(|policy| current.policies.get(&policy.key) != Some(policy));
            let policies: Vec<_> = policies.cloned().map(Change::Policy).collect();
            prop_assert!(edited.policies != read.state.policies, "{:?} changes nothing", changes);
            for enforcer in &mut self.enforcers {
                enforcer.apply(policies.clone());
            }
            let reference = Reference::new(&edited, &read.facts);
            let shots: Vec<_> = trials.iter().map(|trial| trial.shot.clone()).collect();
            let arrived = self.lab.shoot(&shots).unwrap();
            for (trial, arrived) in trials.iter().zip(arrived) {
                // If a policy selects more pods, it may isolate the other end, or a starting pod that may have this IP.
                let judgement = reference.evaluate(&trial.flow).unwrap();
                let selects_more = changes.iter().any(|change| change.contains("let spec.podSelector "));
                let expected = !selects_more || judgement.verdict == Verdict::Allow;
                let flow = flow_line(&trial.flow);
                prop_assert_eq!(arrived, expected, "{} after {:?}: {:?}", flow, changes, judgement);
                changes.iter().for_each(|change| add(tally, words::kind(change), arrived));
            }
            current = edited;
        }
        Ok(())
    }
}

fn add(tally: &mut Tally, what: &str, arrived: bool) {
    let (sent, through) = tally.entry(what.to_owned()).or_default();
    *sent += 1;
    *through += usize::from(arrived);
}

impl Read {
    /// Writes a cluster into a file and reads it. The program knows no pod ranges.
    fn new(case: &Case) -> Self {
        let objects: Vec<_> = objects(&case.state).collect();
        let file = std::env::temp_dir().join(format!("palisade-explained-{}.json", std::process::id()));
        let facts = NodeFacts { pod_ranges: BTreeMap::new(), ..case.facts.clone() };
        let state = read(&file, &objects);
        Self { file, objects, state, facts }
    }

    /// Asks the program.
    fn story(&self, flow: &Flow) -> Story {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        command.args(["explain", "flow", "-o", "json", "-f"]).arg(&self.file);
        for (node, addresses) in &self.facts.addresses {
            command.args(addresses.iter().map(|address| format!("--node-address={node}={address}")));
        }
        if self.facts.allow_egress_to_own_node {
            command.arg("--allow-egress-to-own-node");
        }
        if let Some(family) = flow.family {
            command.arg(format!("--family={family}"));
        }
        command.args([flow.from.to_string(), flow.to.to_string()]);
        match flow.transport {
            Transport::Port(protocol, port) => command.args([port.to_string(), format!("--protocol={protocol}")]),
            Transport::Portless => command.arg("--protocol=ICMP"),
        };
        let output = command.output().unwrap();
        let verdict = match output.status.code() {
            Some(0) => Verdict::Allow,
            Some(1) => Verdict::Deny,
            _ => panic!("{}: {}", flow_line(flow), String::from_utf8_lossy(&output.stderr)),
        };
        let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut flow = answer["flows"][0].take();
        assert_eq!(flow["verdict"], verdict.to_string());
        Story { verdict, directions: ["egress", "ingress"].map(|direction| flow[direction].take()) }
    }

    /// The cluster after the file was edited.
    fn edited(&self, changes: &[&str]) -> State {
        let mut objects = self.objects.clone();
        changes.iter().for_each(|change| words::follow(&mut objects, change));
        read(&self.file.with_extension("edited.json"), &objects)
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).ok();
        std::fs::remove_file(self.file.with_extension("edited.json")).ok();
    }
}

fn read(file: &Path, objects: &[Value]) -> State {
    std::fs::write(file, json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()).unwrap();
    palisade_watch::read_manifests_and_workloads(&[file.to_owned()]).unwrap().into()
}

impl Story {
    /// The changes that would allow the flow; none unless there is one for every direction that is denied.
    fn changes(&self) -> Vec<&str> {
        let denied = self.directions.iter().filter(|direction| direction["verdict"] == "deny");
        let changes: Option<Vec<_>> = denied.map(|direction| direction["nearest"]["change"].as_str()).collect();
        changes.unwrap_or_default()
    }
}
