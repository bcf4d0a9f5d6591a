//! The verdict of a pod's policies on packets that conntrack does not track.
//!
//! The rendered chain is walked, so that there is no second definition of it. Which pods a selector matches does not
//! matter, because rules about flows match no such packet: the policies of the pod alone give the chain of its node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use palisade_policy::flow::Transport;
use palisade_policy::index::Index;
use palisade_policy::input::{Addresses, Change, Direction, Family, Namespace, Pod, Policy, State};

use crate::model::{CtStates, Hook, Key, Ruleset, Verdict};
use crate::name::Name;
use crate::render::{Options, render, verdict_map};
use crate::walk::{End, Invalid, Packet, walk_chain};

/// The chain that judges a pod's untracked packets in one direction.
#[derive(Clone, Debug)]
pub struct Judge {
    ruleset: Ruleset,
    chain: Name,
}

/// What a chain does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It passes, by the rule with this comment.
    Passes(String),
    /// It is dropped.
    Dropped,
}

/// The IPs of the pod while its chain is rendered: its own may be unknown, and rules do not depend on it.
const STAND_IN: Addresses =
    Addresses { v4: Some(Ipv4Addr::new(10, 0, 0, 1)), v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)) };

impl Judge {
    /// The chain of a pod that these policies isolate, and of every pod that they isolate together. `judge` is the agent's
    /// `--untracked judge`. `None` if none of them isolates it.
    pub fn of(pod: &Pod, policies: &[&Policy], direction: Direction, judge: bool) -> Option<Self> {
        let mut subject = Pod { addresses: STAND_IN, node: Some("node".into()), ..pod.clone() };
        (subject.terminating, subject.awaits_network) = (false, false);
        let mut state = State::default();
        state.apply(Change::Namespace(Namespace::new(pod.key.namespace.clone(), [].into())));
        state.apply(Change::Pod(subject));
        for policy in policies {
            state.apply(Change::Policy((*policy).clone()));
        }
        let options = Options { judge_untracked: judge, ..Options::default() };
        let mut ruleset = render(Index::build("node", &state).compiled(), &options);
        let address = Key::Address(STAND_IN.of(Family::V4)?);
        let map = ruleset.sets.get(&verdict_map(direction, Family::V4))?;
        let chain = match &map.elements.get(&address)?.verdict {
            Some(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.clone(),
            _ => return None,
        };
        // Many are kept at a time: without the chains that it does not lead to.
        let leads_to =
            |name: &Name| *name == chain || ["drop/", "ports/"].iter().any(|head| name.as_str().starts_with(head));
        ruleset.chains.retain(|name, _| leads_to(name));
        Some(Self { ruleset, chain })
    }

    /// What the chain does with this packet.
    pub fn rules_on(&self, packet: &Packet) -> Result<Ruling, Invalid> {
        let walked = walk_chain(&self.ruleset, &self.chain, packet)?;
        Ok(match walked.end {
            End::Drop => Ruling::Dropped,
            End::Accept => {
                let last = walked.steps.into_iter().next_back();
                Ruling::Passes(last.and_then(|step| step.comment).unwrap_or_default())
            }
        })
    }
}

/// The request of a flow and its reply, both untracked.
pub fn packets(client: IpAddr, server: IpAddr, transport: Transport) -> [Packet; 2] {
    let states = CtStates { untracked: true, ..CtStates::default() };
    let request = Packet::request(Hook::Forward, client, server, transport);
    [request.without_flow(states), request.reply(Hook::Forward).without_flow(states)]
}
