//! The kernel's rules, as `nft` lists them, each with a counter.

use std::collections::HashMap;
use std::fmt::Write as _;

use palisade_lab::Node;

/// The packets that a chain of a group counted, or a chain of its ports.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// By rule, as it is written without a counter.
    pub(super) rules: HashMap<String, usize>,
    /// By the rules that drop.
    pub(super) dropped: usize,
}

/// Ends of a rule's matches.
const VERDICTS: [&str; 5] = [" return", " accept", " goto ", " jump ", " drop"];

fn list(node: &Node) -> String {
    node.namespace().output("nft", &["list", "table", "inet", "palisade"], "").unwrap()
}

/// Replaces the table by the same with a counter in every rule of the groups' chains.
pub(super) fn count_every_rule(node: &Node) {
    let (mut script, mut counts) = ("delete table inet palisade\n".to_owned(), false);
    for line in list(node).lines() {
        counts = chain(line).map_or(counts, is_of_group) && line != "\t}";
        let (matches, comment) = line.split_at(line.find(" comment \"").unwrap_or(line.len()));
        // A rule without matches begins with its verdict.
        let matches = matches.replace('\t', " ");
        let verdict = VERDICTS.iter().filter_map(|verdict| matches.rfind(verdict)).min();
        match verdict {
            Some(at) if counts && !matches.contains("counter ") => {
                let (matches, verdict) = matches.split_at(at);
                writeln!(script, "{matches} counter{verdict}{comment}").unwrap();
            }
            _ => writeln!(script, "{line}").unwrap(),
        }
    }
    node.nft(&script).unwrap();
}

/// The chains of groups and their ports by name.
pub(super) fn counted(node: &Node) -> HashMap<String, Counted> {
    let mut chains: HashMap<String, Counted> = HashMap::new();
    let mut current = None;
    for line in list(node).lines() {
        if let Some(name) = chain(line) {
            current = is_of_group(name).then(|| name.to_owned());
            chains.extend(current.iter().map(|name: &String| (name.clone(), Counted::default())));
        }
        let (Some(name), Some((matches, rest))) = (&current, line.trim().split_once("counter packets ")) else {
            continue;
        };
        let (packets, rest) = rest.split_once(" bytes ").unwrap();
        let (_, verdict) = rest.split_once(' ').unwrap();
        let packets: usize = packets.parse().unwrap();
        let counted = chains.get_mut(name).unwrap();
        if verdict.starts_with("goto drop/") {
            counted.dropped += packets;
        }
        *counted.rules.entry(format!("{matches}{verdict}")).or_default() += packets;
    }
    chains
}

fn chain(line: &str) -> Option<&str> {
    line.strip_prefix("\tchain ")?.strip_suffix(" {")
}

fn is_of_group(chain: &str) -> bool {
    ["egress/", "ingress/", "ports/"].iter().any(|head| chain.starts_with(head))
}
