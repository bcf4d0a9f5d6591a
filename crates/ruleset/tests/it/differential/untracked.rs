//! The chain that judges a pod's untracked packets offline gives the verdict of the whole table of its node.
//!
//! Seen to fail when: it is rendered without `--untracked judge`; the packet has a flow; all but one policy are left out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_policy::compile::Group;
use palisade_policy::flow::Transport;
use palisade_policy::index::Index;
use palisade_policy::input::{Direction, Family, Pod, Protocol};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options, render};
use palisade_ruleset::untracked::{Judge, Ruling, packets};
use palisade_ruleset::walk::{Packet, walk};
use palisade_testkit::generate::{Case, arb_case_with};
use palisade_testkit::trials::Trials;
use proptest::prelude::*;

/// Verdicts compared in a test run.
const VERDICTS: usize = 20_000;

#[test]
fn the_chain_alone_gives_the_verdict_of_the_table() {
    Trials::of("untracked", "PALISADE_VERDICTS", VERDICTS).run(|| arb_case_with(1..40), compare);
}

/// Compares the verdicts on packets of each isolated pod, from and to the ends of the flows; returns their number.
fn compare(case: &Case) -> Result<usize, TestCaseError> {
    let mut compared = 0;
    let nodes: BTreeSet<_> = case.state.every_pod().filter_map(|pod| pod.node.clone()).collect();
    let transports: Vec<_> =
        case.flows.iter().map(|flow| flow.transport).chain([Transport::Port(Protocol::Udp, 53)]).collect();
    let addresses = case.state.every_pod().flat_map(Pod::claims).take(8);
    let peers: Vec<IpAddr> = addresses.chain(["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]).collect();
    for (node, judge) in nodes.iter().flat_map(|node| [false, true].map(|judge| (node, judge))) {
        let index = Index::build(node.clone(), &case.state);
        let ruleset = render(index.compiled(), &Options { judge_untracked: judge, ..Options::default() });
        for (address, subject) in &index.compiled().subjects {
            let pods: Vec<_> =
                case.state.every_pod().filter(|pod| pod.claims().any(|claim| claim == *address)).collect();
            let [pod] = pods.as_slice() else { continue };
            for direction in Direction::ALL {
                let group = match direction {
                    Direction::Egress => &subject.egress,
                    Direction::Ingress => &subject.ingress,
                };
                let keys = group.as_ref().map(Group::policies).unwrap_or_default();
                let policies: Vec<_> = keys.iter().map(|key| &case.state.policies[key]).collect();
                let Some(alone) = Judge::of(pod, &policies, direction, judge) else { continue };
                let same = |peer: &&IpAddr| Family::of(**peer) == Family::of(*address) && *peer != address;
                for peer in peers.iter().filter(same) {
                    let transport = transports[compared % transports.len()];
                    let packet = match direction {
                        Direction::Egress if compared % 2 == 0 => packets(*address, *peer, transport)[0].clone(),
                        Direction::Egress => packets(*peer, *address, transport)[1].clone(),
                        // From an end that is in no egress map of this node.
                        Direction::Ingress => packets(outside(*address), *address, transport)[0].clone(),
                    };
                    let ruling = alone.rules_on(&packet).unwrap();
                    prop_assert_eq!(
                        ruling == Ruling::Dropped,
                        is_dropped(&ruleset, direction, &packet),
                        "{} of {}, judge: {}: {:?}",
                        direction,
                        pod.key,
                        judge,
                        packet
                    );
                    compared += 1;
                }
            }
        }
    }
    Ok(compared)
}

fn outside(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { "198.51.100.9".parse().unwrap() } else { "2001:db8:9::9".parse().unwrap() }
}

/// Whether the table drops a packet because of isolation in this direction.
fn is_dropped(ruleset: &Ruleset, direction: Direction, packet: &Packet) -> bool {
    let walked = walk(ruleset, packet).unwrap();
    walked.steps.iter().any(|step| step.chain.as_str() == format!("drop/{direction}"))
}
