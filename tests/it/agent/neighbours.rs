//! Others on the same node: their tables, their changes to our table, a second agent.

use std::time::{Duration, Instant};

use palisade_lab::packet::Ends;
use palisade_lab::{Protocol, Signal};
use palisade_ruleset::model::TABLE_COMMENT;

use crate::agent::bed::{ALLOW, Bed, DENY, LISTEN};
use crate::common::listing::without_stamps;
use crate::common::running::Agent;

/// Tables of others, some with names like ours. Nothing in these tests changes their counters.
const FOREIGN: &str = "
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr 192.0.2.0/24 counter packets 7 bytes 700 masquerade comment \"theirs\"
	}
}
table inet other {
	comment \"of somebody else\"
	set members { type ipv4_addr; comment \"theirs\"; elements = { 192.0.2.1 comment \"one\" }; }
	chain forward {
		type filter hook forward priority filter
		ip saddr @members counter packets 8 bytes 800 drop
	}
}
table ip palisade {
	map ingress4 { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }
	chain forward {
		type filter hook forward priority filter
		ip saddr vmap @ingress4
	}
}
table bridge palisade {
	chain forward {
		type filter hook forward priority filter
		ether type 0x9000 counter packets 9 bytes 900 accept
	}
}
";

/// What the agent logs when it repairs.
const CHANGED: &str = "another program changed table inet palisade; repairing it";

/// All tables of others, with handles.
fn foreign(bed: &Bed) -> String {
    let tables = bed.nft(&["list", "tables"]);
    let theirs = tables.lines().filter(|table| *table != "table inet palisade");
    let list = |table: &str| bed.nft(&[&["-a", "list"], &table.split(' ').collect::<Vec<_>>()[..]].concat());
    theirs.map(list).collect()
}

/// Lets the bridge's IPv4 packets bypass netfilter, or stops that. An agent reports it after it has next surveyed the
/// node and read the table, which it does every few seconds.
fn let_bridge_pass(bed: &Bed, pass: bool) {
    let value = if pass { "0" } else { "1" };
    bed.node().namespace().sysctl(&[("net/bridge/bridge-nf-call-iptables", value)]).unwrap();
}

/// Waits until the agent has surveyed the node since the setting was changed.
fn wait_looked(agent: &Agent, passes: bool) {
    if passes {
        agent.wait_missing("net.bridge.bridge-nf-call-iptables is 0");
        // Not every user has the probe's answer at hand: the log says it too.
        agent.wait("the log line", || agent.logged("this node cannot be enforced; not ready") > 0);
        let tagged = "frames with a VLAN tag bypass the rules between pods of a bridge, so pods with NET_RAW can get past them; \
                      set net.bridge.bridge-nf-filter-vlan-tagged to 1";
        assert!(agent.logged(tagged) > 0, "the kernel's default is not logged");
    } else {
        agent.wait_ready();
    }
    // The loop that surveys also reads the counters, so when these have been read, the survey is done.
    agent.metric("palisade_watch_synced");
}

#[test]
fn an_owned_table_and_those_of_others_leave_each_other_alone() {
    let bed = Bed::new("owned");
    bed.node().nft(FOREIGN).unwrap();
    let theirs = foreign(&bed);
    assert!(theirs.contains("table ip palisade") && theirs.contains("comment \"one\""), "{theirs}");

    // A start, commits, a restart.
    bed.write("deny.yaml", DENY);
    let agent = bed.agent_that_checks_bridges();
    agent.wait_ready();
    assert_eq!(foreign(&bed), theirs);
    assert!(bed.heading().contains("flags owner"), "{}", bed.heading());
    agent.after("policy shop/web-allow added", || bed.write("allow.yaml", ALLOW));
    agent.after("policy shop/web-allow deleted", || bed.remove("allow.yaml"));
    bed.assert_reached(false);
    assert_eq!(foreign(&bed), theirs);
    assert!(agent.end(Signal::SIGTERM).success());
    let agent = bed.agent_that_checks_bridges();
    agent.wait_ready();
    bed.assert_reached(false);
    assert_eq!(foreign(&bed), theirs);

    // Others change their own tables, which the agent ignores.
    let ours = bed.handles();
    bed.node().nft("delete element inet other members { 192.0.2.1 }\nadd chain ip palisade more").unwrap();
    assert_ne!(foreign(&bed), theirs, "the listing shows what changes");
    let theirs = foreign(&bed);
    let_bridge_pass(&bed, true);
    wait_looked(&agent, true);
    assert_eq!((bed.handles(), agent.commits("repair"), foreign(&bed)), (ours.clone(), 0, theirs));

    // A flush of everything deletes theirs and skips ours. There is nothing to repair.
    bed.nft(&["flush", "ruleset"]);
    let_bridge_pass(&bed, false);
    assert_eq!(foreign(&bed), "");
    bed.assert_reached(false);
    wait_looked(&agent, false);
    assert_eq!((bed.handles(), agent.commits("repair")), (ours, 0));

    // Cleanup is refused while the agent runs; afterwards it removes ours only.
    bed.node().nft(FOREIGN).unwrap();
    let theirs = foreign(&bed);
    let (status, error) = bed.cleanup();
    assert_eq!(status, Some(1));
    assert!(error.contains(&format!("process {}, palisade", agent.id())) && error.contains("hint: "), "{error}");
    bed.assert_reached(false);
    agent.end(Signal::SIGTERM);
    assert_eq!(bed.cleanup(), (Some(0), String::new()));
    assert!(!bed.has_table());
    bed.assert_reached(true);
    assert_eq!(foreign(&bed), theirs);
    assert_eq!(bed.cleanup(), (Some(0), String::new()), "nothing to remove is not a failure");
}

#[test]
fn a_plain_table_is_repaired_when_it_was_changed_and_not_when_other_tables_were() {
    let bed = Bed::new("plain");
    // A table with a foreign object is repaired, but gets no owner: as on a kernel without owners.
    bed.node()
        .nft(&format!(
            "table inet palisade {{\n comment \"{TABLE_COMMENT}\"\n chain mine {{\n meta mark 5 accept\n }}\n}}\n"
        ))
        .unwrap();
    bed.node().nft(FOREIGN).unwrap();
    bed.write("deny.yaml", DENY);
    let agent = bed.agent_that_checks_bridges();
    agent.wait_ready();
    assert!(!bed.heading().contains("flags owner"), "{}", bed.heading());
    assert!(!bed.list().contains("chain mine"), "{}", bed.list());
    bed.assert_reached(false);
    let ours = content(&bed);

    // Others change their own tables: the table is read back and found unchanged.
    bed.node().nft("delete element inet other members { 192.0.2.1 }\nadd chain ip palisade more").unwrap();
    let theirs = foreign(&bed);
    let_bridge_pass(&bed, true);
    wait_looked(&agent, true);
    assert_eq!((agent.commits("repair"), agent.logged(CHANGED)), (0, 0));
    let_bridge_pass(&bed, false);
    wait_looked(&agent, false);

    // Others open the pod: it is closed again, and only that is undone.
    let [v4, ..] = bed.web.addresses()[..] else { panic!("the pod has addresses") };
    bed.node()
        .nft(&format!("delete element inet palisade ingress4 {{ {v4} }}\ninsert rule inet palisade forward accept"))
        .unwrap();
    agent.wait("repair", || agent.commits("repair") == 1);
    bed.assert_reached(false);
    assert_eq!((content(&bed), agent.logged(CHANGED), foreign(&bed)), (ours.clone(), 1, theirs));

    // Another program flushes everything: the table is recreated at once, not at the next check ten seconds later.
    for repairs in 2..=4_u64 {
        let flushed = Instant::now();
        bed.nft(&["flush", "ruleset"]);
        agent.wait("repair", || agent.commits("repair") == repairs);
        assert!(flushed.elapsed() < Duration::from_secs(3), "repair {repairs} took {:?}", flushed.elapsed());
        bed.assert_reached(false);
        assert_eq!(
            (content(&bed), agent.logged(CHANGED) as u64, foreign(&bed)),
            (ours.clone(), repairs, String::new())
        );
    }
    assert_eq!(agent.missing(), None);
}

/// The lines of table inet palisade without the values of counters. nft lists objects in the order of creation, so the
/// lines are sorted.
fn content(bed: &Bed) -> Vec<String> {
    let listing = bed.nft(&["-s", "list", "table", "inet", "palisade"]);
    let mut lines: Vec<_> = without_stamps(&listing).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_second_agent_finds_the_table_taken() {
    let bed = Bed::new("second");
    bed.write("deny.yaml", DENY);
    let first = bed.agent();
    first.wait_ready();
    let ours = bed.handles();
    let second = bed.agent_at("127.0.0.1:9441");
    let reason = second.wait_missing("owns table inet palisade");
    assert!(reason.contains(&format!("another palisade agent (process {}, palisade)", first.id())), "{reason}");
    assert_eq!((second.commits("full"), bed.handles()), (0, ours.clone()));
    // It waits for the first to end, and adopts its table.
    first.end(Signal::SIGKILL);
    second.wait_ready();
    assert_eq!(bed.handles(), ours);
    bed.assert_reached(false);
}

/// Rules of another program that use the bits of the verdict cache, one of them of iptables.
#[test]
fn marks_of_other_programs_turn_the_verdict_cache_off() {
    let bed = Bed::new("marks");
    bed.write("deny.yaml", DENY);
    let in_use = |agent: &Agent, used: u64| {
        agent.wait_ready();
        agent.wait("the verdict cache", || agent.find_metric("palisade_verdict_cache_in_use") == Some(used));
        assert_eq!(bed.nft(&["list", "chain", "inet", "palisade", "forward"]).contains("verdict-cache"), used == 1);
        bed.assert_reached(false);
    };
    let says = "no verdict cache: another program uses its bits; see --verdict-cache";
    let agent = bed.agent();
    in_use(&agent, 1);
    assert_eq!(agent.logged(says), 0);
    agent.end(Signal::SIGTERM);

    // Its own table, which uses them, does not count.
    let agent = bed.agent();
    in_use(&agent, 1);
    agent.end(Signal::SIGTERM);

    let connmark = ["-t", "mangle", "-A", "PREROUTING", "-j", "CONNMARK", "--save-mark"];
    let done = bed.node().command("iptables-nft").args([&connmark[..], &["--ctmask", "0xff0000"]].concat()).status();
    assert!(done.unwrap().success());
    let agent = bed.agent();
    in_use(&agent, 0);
    let said = agent.events().into_iter().find(|event| event["message"] == says).unwrap();
    assert!(said.to_string().contains("a rule in ip mangle, chain PREROUTING writes 0x"), "{said}");
    agent.end(Signal::SIGTERM);

    // Other bits are free.
    let manifests = bed.manifests();
    let arguments = ["--manifests", manifests.to_str().unwrap(), "--verdict-cache", "0xff000000"];
    let agent = Agent::start(bed.node(), LISTEN, &arguments, &bed.log());
    in_use(&agent, 1);
}

#[test]
fn packets_that_others_keep_out_of_conntrack_are_counted_and_logged() {
    const DROPPED: &str = "palisade_dropped_packets_total{direction=\"ingress\",reason=\"untracked\",family=\"ipv4\"}";
    let bed = Bed::new("untracked");
    bed.write("deny.yaml", DENY);
    bed.write("allow.yaml", ALLOW);
    let agent = bed.agent();
    agent.wait_ready();
    let ends = Ends::V4(bed.client.ipv4().unwrap(), bed.web.ipv4().unwrap());
    let query = ends.packet(Protocol::Udp, &ends.udp(5000, 53, b"query"));
    let notrack = "table inet dns { chain raw { type filter hook prerouting priority raw; udp dport 53 notrack; }; }";
    bed.node().nft(notrack).unwrap();
    let warning = "untracked packets of isolated pods are dropped: another program's rule keeps them out of conntrack, as for \
                   NodeLocal DNSCache, which needs --untracked judge and an egress rule with an ipBlock";
    agent.wait("the log line", || {
        bed.client.namespace().send_packet(&query).unwrap();
        agent.logged(warning) > 0
    });
    assert!(agent.metric(DROPPED) > 0);
    // The counters are read again, and there is more to count.
    let before = agent.metric(DROPPED);
    agent.wait("another reading", || {
        bed.client.namespace().send_packet(&query).unwrap();
        agent.metric(DROPPED) > before
    });
    assert_eq!(agent.logged(warning), 1);
}
