//! Seen to fail when: a line that cannot be judged prints nothing; an unknown field is ignored; a missing port is 0;
//! port 0 passes; an array passes for an object; the protocol is compared as written; an IPv4-mapped address stays
//! IPv6; `node/NAME` is a pod; the verdicts or the reasons of the two directions are swapped; reasons name the pod that
//! was named instead of the one that has its IP; a port's name is looked up with another protocol; errors of text go to
//! stdout.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::input::{
    Change, ContainerPort, Family, Isolates, LabelSelector, Namespace, NamespacedName, Peers, Phase, Pod, Policy, Port,
    Ports, Protocol, Rule, Services, State,
};
use palisade_policy::reference::Reference;
use serde_json::{Value, json};

use super::request::{EXAMPLE, Request};
use super::{Judge, Tally};
use crate::cli::TraceOutput;
use crate::ends::Names;

/// Without Services.
fn names(state: &State) -> Names<'_> {
    static NONE: Services = Services { services: BTreeMap::new(), slices: BTreeMap::new() };
    Names { state, services: &NONE, namespace: None, translates: true }
}

fn key(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').unwrap();
    NamespacedName::new(namespace, name)
}

fn policy(name: &str, isolates: Isolates) -> Policy {
    Policy {
        key: key(name),
        pod_selector: LabelSelector::everything(),
        isolates,
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

/// shop/web and shop/db on node-1, ops/tool on node-2; shop is isolated for ingress except TCP 80, ops for egress.
fn cluster() -> State {
    let mut state = State::default();
    for name in ["shop", "ops"] {
        state.apply(Change::Namespace(Namespace::new(name, [].into())));
    }
    for (name, node, last) in [("shop/web", 1, 2), ("shop/db", 1, 3), ("ops/tool", 2, 2), ("ops/bare", 2, 0)] {
        let mut pod = Pod { phase: Phase::Running, node: Some(format!("node-{node}").into()), ..Pod::new(key(name)) };
        pod.addresses.v4 = (last > 0).then_some(Ipv4Addr::new(10, 42, node, last));
        pod.host_addresses = vec![[172, 30, 0, 10 + node].into()];
        state.apply(Change::Pod(pod));
    }
    let port = Port::Range { protocol: Protocol::Tcp, first: 80, last: 80 };
    let ingress = vec![Rule { peers: Peers::Any, ports: Ports::Of(vec![port]) }];
    let isolates = Isolates { ingress: true, egress: false };
    state.apply(Change::Policy(Policy { ingress, ..policy("shop/allow-80", isolates) }));
    state.apply(Change::Policy(policy("ops/no-way-out", Isolates { ingress: false, egress: true })));
    state
}

fn trace(state: &State, form: TraceOutput, lines: &str) -> Vec<String> {
    let facts = NodeFacts::default();
    let reference = Reference::new(state, &facts);
    let judge = Judge { names: names(state), state, reference: &reference, untracked: None, form };
    let mut out = Vec::new();
    judge.lines(lines.as_bytes(), &mut out, &mut Vec::new(), |answer| answer).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

/// Verdict, egress and ingress as `allow deny …`, or the error.
fn verdicts(lines: &str) -> Vec<String> {
    let answers = trace(&cluster(), TraceOutput::Json, lines);
    answers
        .iter()
        .map(|answer| {
            let answer: Value = serde_json::from_str(answer).unwrap();
            let word = |field: &str| answer[field].as_str().map(str::to_owned);
            let judged = [word("verdict"), word("egress"), word("ingress")];
            word("error").unwrap_or_else(|| judged.map(Option::unwrap).join(" "))
        })
        .collect()
}

#[test]
fn lines_are_judged_in_order() {
    let lines = r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":80}
{"from":"shop/web","to":"shop/db","protocol":"tcp","port":81}
{"from":"shop/web","to":"shop/db","port":80}
{"from":"shop/web","to":"shop/db","protocol":"Udp","port":80}
{"from":"shop/web","to":"shop/db","protocol":"icmp"}
{"from":"ops/tool","to":"10.42.1.3","protocol":"sctp","port":80}
{"from":"10.42.2.2","to":"9.9.9.9","protocol":"ICMP"}
{"from":"node/node-1","to":"shop/db","protocol":"ICMP"}
{"from":"node/node-2","to":"shop/db","protocol":"ICMP"}
{"from":"ops/bare","to":"shop/db","port":80,"family":"IPv4"}"#;
    let expected = [
        "allow allow allow",
        "deny allow deny",
        "allow allow allow",
        "deny allow deny",
        "deny allow deny",
        "deny deny deny",
        "deny deny allow",
        "allow allow allow",
        "deny allow deny",
        "deny deny allow",
    ];
    assert_eq!(verdicts(lines), expected);
}

#[test]
fn a_line_that_cannot_be_judged_gets_an_error_in_its_place() {
    let cases = [
        (r#"{"from":"shop/nobody","to":"shop/db","port":80}"#, "pod shop/nobody is not among the objects read"),
        (r#"{"from":"shop/web","to":"fd00::1","port":80}"#, "share no address family"),
        (r#"{"from":"shop/web","to":"shop/db","port":80,"family":"IPv6"}"#, "shop/web has no IPv6 address"),
        (r#"{"from":"shop/web","to":"shop/db","protocol":"GRE","port":80}"#, "\"GRE\" is not one of TCP, UDP, SCTP"),
        (r#"{"from":"shop/web","to":"shop/db"}"#, "port is missing; TCP needs one"),
        (r#"{"from":"shop/web","to":"shop/db","port":null}"#, "port is missing"),
        (r#"{"from":"shop/web","to":"shop/db","port":0}"#, "port 0 is not a number from 1 to 65535"),
        (r#"{"from":"shop/web","to":"shop/db","port":65536}"#, "port 65536 is not"),
        (r#"{"from":"shop/web","to":"shop/db","port":-1}"#, "port -1 is not"),
        (r#"{"from":"shop/web","to":"shop/db","port":"80"}"#, "port \"80\" is not a number"),
        (r#"{"from":"shop/web","to":"shop/db","port":80,"family":"IPv5"}"#, "is not IPv4 or IPv6"),
        (r#"{"from":"shop/web","to":"shop/db","prot":80}"#, "unknown field `prot`"),
        (r#"{"from":"shop/web","port":80}"#, "missing field `to`"),
        (r#"{"from":"shop/web","to":"node/node-1","port":80}"#, "cannot be the destination"),
        (r#"{"from":"web","to":"shop/db","port":80}"#, "\"web\" is not namespace/pod, an IP address, node/NAME"),
        (r#"{"from":"10.0.0.0/8","to":"shop/db","port":80}"#, "is not namespace/pod"),
        (r#"{"from":"fe80::1%eth0","to":"shop/db","port":80}"#, "is not namespace/pod"),
        (r#"{"from":"shop/web","to":"shop/db","port":80} x"#, "trailing characters"),
        ("", "the line is empty"),
        ("   ", "the line is empty"),
        (r#"["shop/web","shop/db","TCP",80,null]"#, "not a JSON object"),
        (r#"{"from":["shop/web"],"to":"shop/db","port":80}"#, "invalid type"),
    ];
    let lines: Vec<_> = cases.iter().map(|(line, _)| *line).collect();
    let found = verdicts(&format!("{}\n", lines.join("\n")));
    assert_eq!(found.len(), cases.len());
    for ((line, expected), found) in cases.iter().zip(found) {
        assert!(found.contains(expected), "{line}: {found}");
    }
    assert!(verdicts("").is_empty());
}

#[test]
fn bytes_that_are_not_text_are_an_error_in_place() {
    let state = cluster();
    let facts = NodeFacts::default();
    let judge = Judge {
        names: names(&state),
        state: &state,
        reference: &Reference::new(&state, &facts),
        untracked: None,
        form: TraceOutput::Json,
    };
    let mut out = Vec::new();
    judge
        .lines(
            &b"\xff\xfe\n{\"from\":\"shop/web\",\"to\":\"shop/db\",\"port\":80}\r\n"[..],
            &mut out,
            &mut Vec::new(),
            |answer| answer,
        )
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("\"error\"") && lines[1].contains("\"allow\""), "{text}");
}

#[test]
fn requests_are_read_as_intended() {
    let state = State::default();
    let flow = |text: &str| Request::read(text.as_bytes()).unwrap().flow(None, &state).unwrap();
    let address = |text: &str| Endpoint::Address(text.parse().unwrap());
    let expected = Flow {
        from: address("10.0.0.1"),
        to: address("fd00::1"),
        transport: Transport::Port(Protocol::Sctp, 65535),
        family: Some(Family::V6),
    };
    let line = r#"{"to":"FD00:0::1","from":"::ffff:10.0.0.1","protocol":"sctp","port":65535,"family":"ipv6"}"#;
    assert_eq!(flow(line), expected);
    for family in [json!("IPv4"), json!("4"), json!(4), json!("ipv4")] {
        let line = json!({"from": "a/b", "to": "c/d", "protocol": "ICMP", "port": 7, "family": family}).to_string();
        assert_eq!((flow(&line).family, flow(&line).transport), (Some(Family::V4), Transport::Portless), "{line}");
    }
    let node = flow(r#"{"from":"node/a.b","to":"c/d.e","port":1}"#);
    assert_eq!((node.from, node.to), (Endpoint::Node("a.b".into()), Endpoint::Pod(key("c/d.e"))));
}

/// The answer to one line in text, with reasons.
fn text(state: &State, line: &str) -> String {
    let facts = NodeFacts::default();
    let reference = Reference::new(state, &facts);
    let judge = Judge { names: names(state), state, reference: &reference, untracked: None, form: TraceOutput::Text };
    let flow = Request::read(line.as_bytes()).unwrap().flow(None, state).unwrap();
    let judged = judge.judge(&flow).unwrap();
    judge.answer(&flow, &judged)
}

#[test]
fn text_says_who_and_why() {
    let state = cluster();
    assert_eq!(
        text(&state, r#"{"from":"ops/tool","to":"10.42.1.3","port":80}"#),
        "deny: ops/tool (10.42.2.2) to 10.42.1.3 (pod shop/db), TCP 80\n  \
           egress   deny: policy ops/no-way-out isolates ops/tool for egress, and none of its rules matches\n  \
           ingress  allow: ingress[0] of policy shop/allow-80 allows it",
    );
    assert_eq!(
        text(&state, r#"{"from":"node/node-1","to":"shop/db","protocol":"ICMP"}"#),
        "allow: node/node-1 (172.30.0.11) to shop/db (10.42.1.3), ICMP\n  \
           egress   allow: node/node-1 is not a pod: policies do not select it\n  \
           ingress  allow: the client is the node of shop/db, which always reaches it",
    );
    assert_eq!(
        text(&state, r#"{"from":"shop/web","to":"ops/bare","port":53,"protocol":"UDP"}"#),
        "allow: shop/web (10.42.1.2) to ops/bare (no address), UDP 53\n  \
           egress   allow: no policy isolates shop/web for egress\n  \
           ingress  allow: no policy isolates ops/bare for ingress",
    );
}

#[test]
fn text_names_the_pod_of_an_address() {
    let mut state = cluster();
    let mut job = Pod { phase: Phase::Succeeded, ..Pod::new(key("ops/job")) };
    job.addresses.v4 = Some(Ipv4Addr::new(10, 42, 1, 3));
    state.apply(Change::Pod(job.clone()));
    let found = text(&state, r#"{"from":"shop/web","to":"ops/job","port":81}"#);
    assert!(found.starts_with("deny: shop/web (10.42.1.2) to ops/job (10.42.1.3, pod shop/db), TCP 81\n"), "{found}");
    assert!(found.contains("isolates shop/db for ingress"), "{found}");
    state.apply(Change::Pod(Pod { phase: Phase::Running, ..job }));
    let found = text(&state, r#"{"from":"shop/web","to":"10.42.1.3","port":80}"#);
    assert!(found.contains("10.42.1.3 (claimed by ops/job and shop/db), TCP 80"), "{found}");
    assert!(found.contains("nothing is allowed until one goes"), "{found}");
}

#[test]
fn long_lists_are_truncated() {
    let mut state = cluster();
    for number in 0..20 {
        state.apply(Change::Policy(policy(&format!("shop/p{number:02}"), Isolates { ingress: true, egress: false })));
    }
    let found = text(&state, r#"{"from":"9.9.9.9","to":"shop/db","port":81}"#);
    let expected =
        "policies shop/allow-80, shop/p00, shop/p01, shop/p02, shop/p03, shop/p04, shop/p05, shop/p06 and 13 more";
    assert!(found.contains(expected), "{found}");
}

#[test]
fn every_answer_has_the_fields_that_scripts_rely_on() {
    let answers = trace(&cluster(), TraceOutput::Json, "{\"from\":\"shop/web\",\"to\":\"shop/db\",\"port\":81}");
    assert_eq!(
        answers,
        [concat!(
            r#"{"from":"shop/web","to":"shop/db","transport":"TCP 81","#,
            r#""verdict":"deny","egress":"allow","ingress":"deny","#,
            r#""egress_reason":"no policy isolates shop/web for egress","#,
            r#""ingress_reason":"policy shop/allow-80 isolates shop/db for ingress, and none of its rules matches"}"#,
        )]
    );
}

#[test]
fn text_has_answers_on_stdout_and_errors_with_an_example_on_stderr() {
    let state = cluster();
    let facts = NodeFacts::default();
    let judge = Judge {
        names: names(&state),
        state: &state,
        reference: &Reference::new(&state, &facts),
        untracked: None,
        form: TraceOutput::Text,
    };
    let lines =
        "{}\n{\"from\":\"shop/web\",\"to\":\"shop/db\",\"port\":81}\n\n{\"from\":\"shop/web\",\"to\":\"shop/db\"}\n";
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let tally = judge.lines(lines.as_bytes(), &mut out, &mut err, |answer| answer).unwrap();
    assert_eq!(tally, Tally { lines: 4, denied: 1, failed: 3 });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!(text(out), "deny: shop/web (10.42.1.2) to shop/db (10.42.1.3), TCP 81\n");
    let errors = text(err);
    let errors: Vec<_> = errors.lines().collect();
    let starts =
        ["error: line 1: missing field `from`", "error: line 3: the line is empty", "error: line 4: port is missing"];
    assert_eq!(errors.len(), starts.len(), "{errors:?}");
    for (error, start) in errors.iter().zip(starts) {
        assert!(error.starts_with(start) && error.ends_with(EXAMPLE), "{error}");
    }
}

#[test]
fn a_port_may_follow_the_server_and_may_be_a_name_that_it_declares() {
    let mut state = cluster();
    let declared = [
        ("http", Protocol::Tcp, 8080),
        ("http", Protocol::Udp, 8081),
        ("two", Protocol::Tcp, 1),
        ("two", Protocol::Tcp, 2),
    ];
    let mut db = (*state.pods[&key("shop/db")]).clone();
    db.ports = declared.map(|(name, protocol, port)| ContainerPort { name: name.into(), protocol, port }).to_vec();
    state.apply(Change::Pod(db));
    let read = |line: &Value| Request::read(line.to_string().as_bytes()).unwrap().flow(None, &state);
    let port = |to: &str, protocol: &str, port: Value| {
        let line = json!({"from": "shop/web", "to": to, "protocol": protocol, "port": port});
        read(&line).map(|flow| match flow.transport {
            Transport::Port(_, port) => port,
            Transport::Portless => 0,
        })
    };
    for (to, protocol, written, expected) in [
        ("shop/db", "TCP", json!("http"), 8080),
        ("shop/db", "UDP", json!("http"), 8081),
        ("shop/db:http", "TCP", Value::Null, 8080),
        ("10.42.1.3", "TCP", json!("http"), 8080),
        ("10.42.1.3:http", "TCP", Value::Null, 8080),
        ("shop/db:9000", "TCP", Value::Null, 9000),
        ("shop/db:9000", "TCP", json!(9000), 9000),
        ("[fd00::1]:9000", "TCP", Value::Null, 9000),
        ("fd00::1", "TCP", json!(9000), 9000),
    ] {
        assert_eq!(port(to, protocol, written.clone()), Ok(expected), "{to} {protocol} {written}");
    }
    for (to, protocol, written, says) in [
        ("shop/db", "SCTP", json!("http"), "shop/db declares no SCTP port named \"http\""),
        ("shop/web", "TCP", json!("http"), "shop/web declares no TCP port named"),
        ("10.9.9.9", "TCP", json!("http"), "10.9.9.9 declares no TCP port named"),
        ("shop/nobody", "TCP", json!("http"), "pod shop/nobody is not among the objects read"),
        ("shop/db", "TCP", json!("two"), "as 1 and 2: write a number"),
        ("shop/db:9000", "TCP", json!(80), "are two ports: write one of them"),
        ("shop/db:0", "TCP", Value::Null, "port 0 is not a number"),
        ("shop/db:", "TCP", Value::Null, "is not a number"),
        ("db:80", "TCP", Value::Null, "\"db:80\" is not namespace/pod"),
    ] {
        let error = port(to, protocol, written.clone()).unwrap_err();
        assert!(error.contains(says), "{to} {protocol} {written}: {error}");
    }
}
