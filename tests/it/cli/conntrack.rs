//! `palisade trace --conntrack`: the flows of the kernel's conntrack, and of what `conntrack -L` printed.
//!
//! Seen to fail when: the server is the Service's IP; entries of a flow are not counted; an entry without a pod is
//! judged, or left out of the counts; a malformed line ends with 0; allowed flows come first; the family is left
//! to the pods; the ends are swapped; an IP outside is another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use palisade_testkit::generate::{Case, arb_case_with, manifests};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::cli::place::{Ended, PALISADE, Place, SHOP};

/// An entry from a client to a server, of a protocol by name and number.
fn entry(protocol: &str, client: &str, server: &str, ports: &str) -> String {
    format!(
        "{protocol} 9 src={client} dst=10.96.0.1 {ports} src={server} dst={client} {ports} [ASSURED] mark=0 use=1\n"
    )
}

#[test]
fn packets_of_this_node_are_judged_as_the_flows_that_they_are() {
    // Real packets, translated as kube-proxy does: to db twice, from two ports, and to web.
    let script = "\
ip link set lo up
ip address add 10.42.1.2 dev lo
ip address add 10.42.1.3 dev lo
ip route add 10.96.0.1 dev lo src 10.42.1.2
ip route add 10.96.0.2 dev lo src 10.42.1.3
nft -f - <<'.'
table ip services {
  chain output {
    type nat hook output priority -100
    ip daddr 10.96.0.1 udp dport 53 dnat to 10.42.1.3:5300
    ip daddr 10.96.0.2 udp dport 80 dnat to 10.42.1.2:5353
  }
}
.
echo x > /dev/udp/10.96.0.1/53
echo x > /dev/udp/10.96.0.1/53
echo x > /dev/udp/10.96.0.2/80
exec \"$PALISADE\" trace -f shop.yaml --conntrack -o \"$FORM\"
";
    let place = Place::new("packets", &[("shop.yaml", SHOP)]);
    let run = |form: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "bash", "-ec", script]).env("PALISADE", PALISADE).env("FORM", form);
        Ended::of(command.current_dir(&place.0).output().unwrap())
    };
    let text = run("text");
    let expected = "\
deny: shop/web (10.42.1.2) to shop/db (10.42.1.3), UDP 5300 (2 entries)
allow: shop/db (10.42.1.3) to shop/web (10.42.1.2), UDP 5353 (1 entry)
";
    assert_eq!((text.status, text.out.as_str()), (Some(1), expected), "{}", text.err);
    assert_eq!(text.err, "3 entries: 2 flows judged, 1 denied\n");
    let json = run("json").out;
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    for (field, expected) in [
        ("from", Value::from("shop/web")),
        ("from_address", "10.42.1.2".into()),
        ("to", "shop/db".into()),
        ("to_address", "10.42.1.3".into()),
        ("transport", "UDP 5300".into()),
        ("verdict", "deny".into()),
        ("entries", 2.into()),
    ] {
        assert_eq!(first[field], expected, "{field} in {first}");
    }
}

#[test]
fn a_list_of_entries_is_judged_and_the_others_are_counted() {
    let list = entry("tcp 6", "10.42.1.2", "10.42.1.3", "sport=80")
        + &entry("tcp 6", "10.42.1.2", "10.42.1.3", "sport=5432")
        + &entry("icmp 1", "10.42.1.3", "10.42.1.2", "id=7")
        + &entry("gre 47", "10.42.1.3", "10.42.1.2", "srckey=0x0")
        + &entry("tcp 6", "172.30.0.11", "172.30.0.12", "sport=443")
        + &entry("ipv6 10 tcp 6", "fd42:1::2", "fd42:1::3", "sport=5432")
        + "conntrack v1.4.7 (conntrack-tools): 6 flow entries have been shown.\n";
    let place = Place::new("list", &[("shop.yaml", SHOP), ("list", &list)]);
    let ended = place.run("trace -f shop.yaml --conntrack=list");
    let expected = "\
deny: shop/web (10.42.1.2) to shop/db (10.42.1.3), TCP 80 (1 entry)
deny: shop/web (fd42:1::2) to shop/db (fd42:1::3), TCP 5432 (1 entry)
allow: shop/web (10.42.1.2) to shop/db (10.42.1.3), TCP 5432 (1 entry)
allow: shop/db (10.42.1.3) to shop/web (10.42.1.2), ICMP (1 entry)
";
    assert_eq!((ended.status, ended.out.as_str()), (Some(1), expected), "{}", ended.err);
    let counts = "6 entries: 4 flows judged, 2 denied; not judged: 1 without a pod at either end, \
                  1 of a protocol that is not TCP, UDP, SCTP or ICMP\n";
    assert_eq!(ended.err, counts);
    assert_eq!(place.run_with("trace -f shop.yaml --conntrack=-", &list).out, ended.out);
    // What-if: without the policy, everything passes.
    fs::write(place.0.join("open.yaml"), SHOP.rsplit_once("---").unwrap().0).unwrap();
    let open = place.run("trace -f open.yaml --conntrack=list");
    assert_eq!((open.status, open.out.matches("allow: ").count()), (Some(0), 4), "{open:?}");
}

#[test]
fn what_is_no_entry_ends_with_2_and_what_else_there_is_is_judged() {
    let list = entry("tcp 6", "10.42.1.3", "10.42.1.2", "sport=80") + "{\"from\":\"shop/web\"}\n";
    let place = Place::new("malformed", &[("shop.yaml", SHOP), ("list", &list), ("none", "")]);
    let ended = place.run("trace -f shop.yaml --conntrack=list");
    assert_eq!((ended.status, ended.out.lines().count()), (Some(2), 1), "{ended:?}");
    assert!(ended.err.contains("2 entries: 1 flow judged, 0 denied; not judged: 1 that are no conntrack entries"));
    assert_eq!(place.run("trace -f shop.yaml --conntrack=none").status, Some(0));
    for (arguments, says) in [
        ("trace -f shop.yaml --conntrack=nowhere", "cannot read the flows of nowhere"),
        ("trace -f - --conntrack=-", "both -f and --conntrack read stdin"),
        ("trace -f shop.yaml --conntrack --flows list", "'--flows <FILE>'"),
        ("trace -f shop.yaml --conntrack --from shop/web", "'--conntrack[=<FILE>]'"),
    ] {
        place.run(arguments).assert_refused(2, &[says]);
    }
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all", PALISADE, "trace", "-f", "shop.yaml", "--conntrack"]);
    Ended::of(command.current_dir(&place.0).output().unwrap()).assert_refused(2, &["cannot read conntrack", "hint: "]);
}

/// Verdicts by client, server and transport.
fn verdicts(answers: &str, ends: [&str; 2]) -> BTreeMap<String, String> {
    let answers = answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of = |answer: Value| {
        let key = format!("{} {} {}", answer[ends[0]], answer[ends[1]], answer["transport"]);
        (key, format!("{} {} {}", answer["verdict"], answer["egress"], answer["ingress"]))
    };
    answers.map(of).collect()
}

#[test]
fn an_entry_is_judged_as_the_flow_between_its_addresses() {
    let (clusters, mut runner) = (arb_case_with(1..2), TestRunner::deterministic());
    let mut seen = BTreeSet::new();
    for number in 0..10 {
        let Case { state, .. } = clusters.new_tree(&mut runner).unwrap().current();
        let pods = state.pods.values().flat_map(|pod| pod.addresses.iter()).collect::<BTreeSet<_>>();
        let outside = ["192.0.2.1", "fd00:99::1", "172.30.0.11"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let (mut flows, mut list) = (String::new(), String::new());
        for from in pods.iter().chain(&outside) {
            for to in pods.iter().chain(&outside).filter(|to| to.is_ipv4() == from.is_ipv4()) {
                writeln!(flows, "{{\"from\":\"{from}\",\"to\":\"{to}\",\"port\":80}}").unwrap();
                list += &entry("tcp 6", &from.to_string(), &to.to_string(), "sport=80");
            }
        }
        let files = [("all.yaml", manifests(&state)), ("flows", flows), ("list", list)];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let place = Place::new(&format!("as-flows-{number}"), &files);
        let expected = verdicts(&place.run("trace -f all.yaml --flows flows -o json").out, ["from", "to"]);
        let found = place.run("trace -f all.yaml --conntrack=list -o json");
        assert!(matches!(found.status, Some(0 | 1)), "{found:?}");
        for (flow, verdict) in verdicts(&found.out, ["from_address", "to_address"]) {
            assert_eq!(expected[&flow], verdict, "{flow} in {}", manifests(&state));
            seen.insert(verdict);
        }
    }
    assert_eq!(seen.len(), 4, "each direction allows and denies: {seen:?}");
}
