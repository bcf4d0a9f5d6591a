//! The rulesets that are compared.

use std::fmt::Write as _;
use std::net::IpAddr;

use palisade_dataplane::table::{Ownership, Table};
use palisade_lab::Node;
use palisade_policy::index::Index;
use palisade_policy::input::{Family, State};
use palisade_ruleset::cache::{Slice, resume};
use palisade_ruleset::render::{Established, Options, render};

use crate::policies::{Ends, Shape, elsewhere, state, with_peers};

/// A ruleset on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// No table at all, and no conntrack.
    None,
    /// One rule that asks for a flow's state, so that conntrack works.
    Conntrack,
    /// Conntrack, and a rule that drops the denied pod's packets.
    Drop,
    /// Established flows accepted first, then one chain for each of the server's policies in turn: the layout that other
    /// agents write.
    Others(u16),
    /// What Palisade renders for this many policies of the server.
    Palisade(Shape, u16, Established),
    /// What Palisade renders for one policy of the server that admits this many pods.
    Peers(u16, Established),
}

impl Rules {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Conntrack => "conntrack alone",
            Self::Drop => "conntrack and a plain drop",
            Self::Others(_) => "one chain per policy",
            Self::Palisade(_, _, established) | Self::Peers(_, established) => match established {
                Established::Remember => "palisade",
                Established::Judge => "palisade, --verdict-cache off",
                Established::Keep => "palisade, --established keep",
            },
        }
    }

    /// Loads it; the node has no other rules then.
    pub(crate) fn load(self, node: &Node, ends: &Ends) {
        node.nft("flush ruleset").expect("an empty ruleset");
        let text = match self {
            Self::None => return,
            Self::Conntrack => table("ct state invalid counter", ""),
            Self::Drop => table(&format!("{} saddr {} drop", family(ends.denied), ends.denied), ""),
            Self::Others(number) => others(number, ends),
            Self::Palisade(shape, number, established) => {
                return palisade(&state(shape, number, ends), established, node);
            }
            Self::Peers(number, established) => return palisade(&with_peers(number, ends), established, node),
        };
        node.nft(&text).expect("the rules");
    }
}

fn table(rules: &str, chains: &str) -> String {
    format!(
        "table inet bench {{\n{chains}chain forward {{\ntype filter hook forward priority filter;\n\
         ct state invalid counter\n{rules}\n}}\n}}\n"
    )
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn others(number: u16, ends: &Ends) -> String {
    let (mut chains, mut rules) = (String::new(), "ct state established,related accept\n".to_owned());
    let words = family(ends.client);
    for one in 1..=number {
        let peer = if one == number { ends.client } else { elsewhere(one, Family::of(ends.client)).addr() };
        writeln!(chains, "chain policy-{one} {{ {words} saddr {peer} accept; }}").expect("a string");
        writeln!(rules, "{words} daddr {} jump policy-{one}", ends.server).expect("a string");
    }
    writeln!(rules, "{words} daddr {} drop", ends.server).expect("a string");
    table(&rules, &chains)
}

fn palisade(state: &State, established: Established, node: &Node) {
    let (range4, range6) = node.pod_ranges();
    // As in a cluster, where the Node has podCIDRs.
    let pod_ranges = [range4, range6].map(|range| range.parse().expect("a CIDR")).into();
    let options = Options { pod_ranges, established, ..Options::default() };
    let ruleset = render(Index::build("node-1", state).compiled(), &options);
    node.run(|| {
        let mut table = Table::open(Ownership::Plain).expect("a socket");
        table.replace(&ruleset).expect("the table");
        if options.has_verdict_cache() {
            table.commit(&resume(Slice::default().first()).operations).expect("the rules of the cache");
        }
    })
    .expect("the node");
}
