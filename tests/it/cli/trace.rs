//! `palisade trace`: one flow, and files of flows.
//!
//! Seen to fail when: there is a note about untracked packets of a flow whose ends are not isolated, or on every port;
//! `--untracked` translates a Service's IP; `explain flow --untracked` has a rule about tracked packets.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cli::place::{Place, SHOP};

#[test]
fn one_flow_is_judged_in_text_and_json() {
    let place = Place::new("one", &[("shop.yaml", SHOP)]);
    let allowed = "trace -f shop.yaml --from ops/bare --to shop/db --port 80";
    let expected = "\
allow: ops/bare (no address) to shop/db (10.42.1.3), TCP 80
  egress   allow: no policy isolates ops/bare for egress
  ingress  allow: ingress[0] of policy shop/db allows it
";
    assert_eq!(place.run(allowed).printed(), expected);
    // A denied flow is an answer, too.
    let denied = place.run("trace -f shop.yaml --from shop/web --to shop/db --port 80 -o json").denied();
    assert_eq!(judged(&denied), "deny allow deny", "{denied}");
    let node = |address| {
        let from = format!("trace -f shop.yaml --from {address} --to shop/db --port 80 -o json");
        [judged(&place.run(&from).out), judged(&place.run(&format!("{from} --node-address node-1=fd00::9")).out)]
    };
    assert_eq!(node("fd00::9"), ["deny allow deny", "allow allow allow"], "an address of the pod's own node");
    assert_eq!(node("fd00::8"), ["deny allow deny", "deny allow deny"]);
}

/// Verdict, egress and ingress of an answer in JSON, or its error.
fn judged(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let word = |field: &str| answer[field].as_str().map(str::to_owned);
    word("error").map_or_else(
        || ["verdict", "egress", "ingress"].map(|field| word(field).unwrap()).join(" "),
        |error| format!("error: {error}"),
    )
}

#[test]
fn a_file_of_flows_gets_an_answer_for_each_line() {
    let (allow, deny) = ("allow allow allow", "deny allow deny");
    let cases = [
        (r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":5432}"#, allow),
        (r#"{"from":"shop/web","to":"shop/db","port":5432,"family":"IPv4"}"#, allow),
        (r#"{"from":"shop/web","to":"shop/db","port":5432,"family":"IPv6"}"#, deny),
        (r#"{"from":"shop/web","to":"shop/db","protocol":"UDP","port":5432}"#, deny),
        (r#"{"from":"shop/nobody","to":"shop/db","port":5432}"#, "error: pod shop/nobody is not among"),
        (r#"{"from":"ops/bare","to":"shop/db","port":80}"#, allow),
        (r#"{"from":"ops/bare","to":"shop/db","port":5432}"#, deny),
        (r#"{"from":"shop/web","to":"shop/late","port":80}"#, allow),
        (r#"{"from":"10.42.1.2","to":"shop/late","port":80}"#, "error: "),
        (r#"{"from":"shop/web","to":"shop/db","protocol":"ICMP"}"#, deny),
        (r#"{"from":"shop/db","to":"shop/web","protocol":"ICMP"}"#, allow),
        (r#"{"from":"shop/db","to":"shop/web"}"#, "error: port is missing"),
        (r#"{"from":"node/node-1","to":"shop/db","port":1}"#, allow),
        (r#"{"from":"node/node-2","to":"shop/db","port":80}"#, deny),
        (r#"{"from":"node/node-2","to":"shop/db","port":5432}"#, allow),
        // No object has an IP of this node, so no block contains it.
        (r#"{"from":"node/node-9","to":"shop/db","port":5432}"#, deny),
        ("what?", "error: not a JSON object"),
        ("", "error: the line is empty"),
        (r#"{"from":"shop/web","to":"shop/db","port":80,"protocol":"GRE"}"#, "error: protocol \"GRE\""),
        (r#"{"from":"shop/web","to":"shop/db","port":5432}"#, allow),
    ];
    // The last line may lack its line feed.
    let flows = cases.map(|(line, _)| line).join("\n");
    let place = Place::new("flows", &[("shop.yaml", SHOP), ("flows", &flows)]);
    let judged_all = place.run("trace -f shop.yaml --flows flows -o json");
    assert_eq!((judged_all.status, judged_all.err.as_str()), (Some(2), "error: 6 of 20 flows could not be judged\n"));
    let answers = judged_all.out;
    assert_eq!(answers.lines().count(), cases.len(), "{answers}");
    for ((line, expected), answer) in cases.iter().zip(answers.lines()) {
        assert!(judged(answer).starts_with(expected), "{line}: {answer}");
    }
    assert_eq!(place.run_with("trace -f shop.yaml --flows - -o json", &flows).out, answers);
    assert_eq!(place.run_with("trace -f - --flows flows -o json", SHOP).out, answers);
    // In the text form, answers are on stdout and errors, with their line, on stderr.
    let text = place.run("trace -f shop.yaml --flows flows");
    let (mut out, mut err) = (text.out.lines(), text.err.lines());
    for (number, answer) in answers.lines().enumerate() {
        let judged = judged(answer);
        let word = judged.split([' ', ':']).next().unwrap();
        let (line, start) = match word {
            "error" => (err.next().unwrap(), format!("error: line {}: ", number + 1)),
            word => (out.next().unwrap(), format!("{word}: ")),
        };
        assert!(line.starts_with(&start), "{line}: {answer}");
    }
    assert_eq!((out.next(), err.collect::<Vec<_>>()), (None, vec!["error: 6 of 20 flows could not be judged"]));
}

#[test]
fn ten_thousand_flows_over_a_hundred_manifests_are_judged() {
    const PODS: usize = 100;
    let mut files = Vec::new();
    for number in 0..PODS {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: n{number}, name: pod}}\n\
             spec: {{nodeName: node-{}}}\nstatus: {{phase: Running, podIP: 10.1.0.{number}}}\n",
            number % 7
        );
        // Pods with even numbers are isolated.
        let policy = format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{namespace: n{number}, name: deny}}\n\
             spec: {{podSelector: {{}}}}\n"
        );
        files.push((format!("all/{number}.yaml"), pod + if number % 2 == 0 { &policy } else { "" }));
    }
    let mut flows = String::new();
    for from in 0..PODS {
        for to in 0..PODS {
            writeln!(flows, "{{\"from\":\"n{from}/pod\",\"to\":\"n{to}/pod\",\"port\":80}}").unwrap();
        }
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let place = Place::new("many", &files);
    let answers = place.run_with("trace -f all --flows - -o json", &flows).denied();
    let answers: Vec<_> = answers.lines().map(judged).collect();
    assert_eq!(answers.len(), PODS * PODS);
    for (position, answer) in answers.iter().enumerate() {
        let (from, to) = (position / PODS, position % PODS);
        let expected = if to % 2 == 0 && from != to { "deny allow deny" } else { "allow allow allow" };
        assert_eq!(answer, expected, "from {from} to {to}");
    }
}

#[test]
fn packets_that_conntrack_may_not_track_are_judged_by_the_agents_setting() {
    let more = "\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
    - to: [{ipBlock: {cidr: 169.254.0.0/16}}, {ipBlock: {cidr: 10.96.0.10/32}}, {ipBlock: {cidr: 172.30.0.0/24}}]
      ports: [{port: 53, protocol: UDP}, {port: 123, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {namespace: kube-system, name: cache, labels: {k8s-app: node-local-dns}}
spec: {nodeName: node-1, hostNetwork: true}
status: {phase: Running, hostIP: 172.30.0.11, podIPs: [{ip: 172.30.0.11}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: kube-system, name: kube-dns}
spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{port: 53, protocol: UDP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: shop, name: late-web}
spec: {template: {metadata: {labels: {app: web}}}}
";
    let place = Place::new("untracked-cli", &[("all.yaml", &format!("{SHOP}{more}"))]);
    let ask = |verb: &str, to: &str| {
        place.run(&format!("{verb} -f all.yaml --from shop/web --to {to} --protocol UDP --port 53"))
    };
    let note = "  note: if its packets are untracked";
    for to in ["169.254.20.10", "kube-system/cache", "172.30.0.11"] {
        let text = ask("trace", to).printed();
        assert!(text.contains(note), "{to}: {text}");
        let text = ask("trace --untracked drop", to).denied();
        assert!(text.contains("; with --untracked judge, shop/web egress[0] lets them pass"), "{to}: {text}");
        assert!(!text.contains(note), "{text}");
        let text = ask("trace --untracked judge", to).printed();
        assert!(text.contains("egress   allow: shop/web egress[0] lets untracked packets pass"), "{to}: {text}");
    }
    // Untracked packets are not translated: the Service's IP is the cache's.
    assert!(ask("trace --untracked judge", "10.96.0.10").printed().contains("to 10.96.0.10, UDP 53, untracked\n"));
    // An isolated workload needs no IP as the client.
    let workload = "trace -f all.yaml --from deploy/shop/late-web --to 169.254.20.10:53 --protocol UDP --untracked";
    place.run(&format!("{workload} judge")).printed();
    place.run(&format!("{workload} drop")).denied();
    // No note if no end is isolated, if neither is a cache, if the flow is denied, or on a port other than that of DNS.
    for (from, to, port) in [
        ("shop/db", "169.254.20.10", 53),
        ("shop/web", "172.30.0.12", 53),
        ("shop/web", "169.254.20.10", 54),
        ("shop/web", "169.254.169.123", 123),
    ] {
        let text = place.run(&format!("trace -f all.yaml --from {from} --to {to} --protocol UDP --port {port}")).out;
        assert!(!text.contains(note), "{text}");
    }
    let explained = place
        .run("explain flow -f all.yaml shop/web 169.254.20.10 53 --protocol UDP --untracked drop -o json")
        .denied();
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["flows"][0]["reply"]["verdict"], "allow");
    assert_eq!(explained["flows"][0]["egress"]["node"]["rule"], Value::Null, "it is a rule about flows");
}
